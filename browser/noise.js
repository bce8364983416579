// The noise that a drawing starts from. It is not torch's generator: seed 3 here and seed 3 in Python draw differently.

/** Numbers in [0, 1), the same ones for the same seed: "mulberry32", a counter of 32 bits whose bits are then mixed. */
export function uniform(seed) {
  let counter = seed >>> 0;
  return () => {
    counter = (counter + 0x6d2b79f5) >>> 0;
    let bits = counter;
    bits = Math.imul(bits ^ (bits >>> 15), bits | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** `count` standard normal numbers. Two uniform ones give a point in the plane, its distance and its direction (Box &
 * Muller 1958); its two coordinates are normal. */
export function normal(seed, count) {
  const next = uniform(seed), numbers = [];
  while (numbers.length < count) {
    const distance = Math.sqrt(-2 * Math.log(1 - next())), angle = 2 * Math.PI * next();
    numbers.push(distance * Math.cos(angle), distance * Math.sin(angle));
  }
  return numbers.slice(0, count);
}
