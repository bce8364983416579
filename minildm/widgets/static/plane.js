// Places and colours of the latent explorer.

/** The row and the column of the picture of a grid that is nearest to (x, y); rows go from the
 * top, y upwards. */
export function nearest(x, y, extent, grid) {
  const index = (value) => {
    const closest = Math.round((value / extent + 1) / 2 * (grid - 1));
    return Math.min(Math.max(closest, 0), grid - 1);
  };
  return [grid - 1 - index(y), index(x)];
}

/** The hue of label k of n, in degrees. */
export function hue(k, n) {
  return Math.round(360 * k / n);
}
