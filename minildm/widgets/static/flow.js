// How a particle follows a field: sums only, no page; the tests run them beside PyTorch's.

/**
 * The step that `field` says at level t at the point [x, y], bilinear between the nodes of the
 * grid, which lie at -extent … extent in both directions; beyond them as at the edge.
 * field: (T, G, G, 2), rows are y, entries are (x, y).
 */
export function stepAt(field, t, grid, extent, [x, y]) {
  const place = (value) => {
    const along = (value + extent) / (2 * extent) * (grid - 1);
    return Math.min(Math.max(along, 0), grid - 1);
  };
  const column = place(x), row = place(y);
  const j = Math.min(Math.floor(column), grid - 2), i = Math.min(Math.floor(row), grid - 2);
  const right = column - j, down = row - i;
  return [0, 1].map((axis) => {
    const node = (i, j) => field[((t * grid + i) * grid + j) * 2 + axis];
    return (1 - down) * ((1 - right) * node(i, j) + right * node(i, j + 1))
      + down * ((1 - right) * node(i + 1, j) + right * node(i + 1, j + 1));
  });
}

/** Where a particle dropped at level t goes: its point at t, t + 1 … T. */
export function descend(field, t, T, grid, extent, point) {
  const path = [point];
  for (; t < T; t++) {
    const [dx, dy] = stepAt(field, t, grid, extent, point);
    point = [point[0] + dx, point[1] + dy];
    path.push(point);
  }
  return path;
}

/** The mean distance of some points to the nearest of the data, x and y by turns in one array. */
export function meanDistance(points, data) {
  const nearest = ([x, y]) => {
    let least = Infinity;
    for (let k = 0; k < data.length; k += 2) {
      least = Math.min(least, Math.hypot(x - data[k], y - data[k + 1]));
    }
    return least;
  };
  return points.reduce((sum, point) => sum + nearest(point), 0) / points.length;
}
