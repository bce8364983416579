// What the map painter's brush does, and a map in words.

/** A map, a letter for each pixel, after a stroke of `letter` between two pixels with a square
 * brush. */
export function stroke(map, side, from, to, letter, brush) {
  const pixels = [...map];
  const steps = Math.max(Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1]), 1);
  const reach = (brush - 1) / 2;
  for (let i = 0; i <= steps; i++) {
    const [x, y] = [0, 1].map((k) => from[k] + Math.round((to[k] - from[k]) * i / steps));
    for (let row = y - Math.floor(reach); row <= y + Math.ceil(reach); row++) {
      for (let column = x - Math.floor(reach); column <= x + Math.ceil(reach); column++) {
        const onMap = row >= 0 && row < side && column >= 0 && column < side;
        if (onMap) pixels[row * side + column] = letter;
      }
    }
  }
  return pixels.join("");
}

/** Which classes a map has, by name, for those who do not see it. */
export function inWords(map, classes) {
  const there = classes.filter((name, k) => map.includes(k.toString(16)));
  return `semantic map with ${there.join(", ")}`;
}
