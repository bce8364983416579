// Where a drawing lies on a sheet.

/** The row of a sheet that holds the negative prompt, guidance and steps of `place`; the last
 * changes fastest. */
export function row(place, counts) {
  return (place[1] * counts[2] + place[2]) * counts[3] + place[3];
}
