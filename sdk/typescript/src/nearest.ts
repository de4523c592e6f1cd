/** The hint at the end of an error about a name: the nearest one, then the allowed ones. */

const LISTED = 12;
const LISTED_ALONE = 60;
const CUTOFF = 0.6;

/** Return the hint. A long list is left out if one of its names is near, a very long one always. */
export function nearest(received: unknown, allowed: readonly string[]): string {
  const text = typeof received === "string" ? received.toLowerCase().slice(0, 64) : "";
  let [best, close] = [CUTOFF, undefined as string | undefined];
  for (const name of allowed) {
    const likeness = ratio(name.toLowerCase(), text);
    if (likeness > best || (likeness === best && close === undefined)) [best, close] = [likeness, name];
  }
  const hint = close === undefined ? undefined : `did you mean '${close}'?`;
  if (allowed.length > (hint === undefined ? LISTED_ALONE : LISTED)) {
    return hint ?? `none of the ${allowed.length.toLocaleString("en")} known names is similar`;
  }
  const listed = `llowed: ${allowed.join(", ")}`;
  return hint === undefined ? `a${listed}` : `${hint} A${listed}`;
}

/** Return the likeness of two texts, 0 to 1, by Ratcliff and Obershelp: the share of characters in common parts. */
function ratio(one: string, other: string): number {
  const total = one.length + other.length;
  return total === 0 ? 1 : (2 * matching(one, other)) / total;
}

function matching(one: string, other: string): number {
  let [length, here, there] = [0, 0, 0];
  for (let i = 0; i < one.length; i++) {
    for (let j = 0; j < other.length; j++) {
      let same = 0;
      while (i + same < one.length && one[i + same] === other[j + same] && j + same < other.length) same++;
      if (same > length) [length, here, there] = [same, i, j];
    }
  }
  if (length === 0) return 0;
  const before = matching(one.slice(0, here), other.slice(0, there));
  return before + length + matching(one.slice(here + length), other.slice(there + length));
}
