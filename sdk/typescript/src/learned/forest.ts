/** Boosted trees as plain numbers. */

const MOST_LEAVES = 64;

/**
 * A decision tree. Node 0 is the root; a child below 0 is the leaf `-1 - child`.
 *
 * A node sends a row to the left if the row's feature is at most the threshold. `means` is what a tree would answer if
 * it ended at the node: the steps from one to the next are what each feature contributes.
 */
export interface Tree {
  readonly features: readonly number[];
  readonly thresholds: readonly number[];
  readonly lefts: readonly number[];
  readonly rights: readonly number[];
  readonly means: readonly number[];
  readonly leaves: readonly number[];
}

/** The sum of its trees. */
export class Forest {
  readonly trees: readonly Tree[];
  /** What it answers for the average message. */
  readonly mean: number;

  /** Throws RangeError if a row of so many features can't be scored. */
  constructor(trees: readonly Tree[], features: number) {
    for (const [number, tree] of trees.entries()) {
      if (!isSound(tree, features)) {
        throw new RangeError(`tree ${number} does not lead from its root to its leaves, ${MOST_LEAVES} at most`);
      }
    }
    this.trees = trees;
    this.mean = trees.reduce((sum, tree) => sum + (tree.means[0] ?? tree.leaves[0]!), 0);
  }

  score(row: readonly number[]): number {
    let sum = 0;
    for (const tree of this.trees) sum += tree.leaves[leafOf(tree, row)]!;
    return sum;
  }

  /** Return the score, and what each feature adds to it, against the average message. */
  explain(row: readonly number[]): [score: number, parts: number[]] {
    const parts = row.map(() => 0);
    let score = 0;
    for (const tree of this.trees) {
      score +=
        tree.leaves[
          leafOf(tree, row, (feature, step) => {
            parts[feature]! += step;
          })
        ]!;
    }
    return [score, parts];
  }

  /** Return all values at which the score may change with a feature. */
  thresholds(feature: number): number[] {
    return this.trees.flatMap((tree) => tree.thresholds.filter((_, at) => tree.features[at] === feature));
  }
}

function leafOf(tree: Tree, row: readonly number[], step?: (feature: number, step: number) => void): number {
  const { features, thresholds, lefts, rights, means, leaves } = tree;
  let node = features.length > 0 ? 0 : -1;
  while (node >= 0) {
    const feature = features[node]!;
    const next = row[feature]! <= thresholds[node]! ? lefts[node]! : rights[node]!;
    step?.(feature, (next >= 0 ? means[next]! : leaves[-1 - next]!) - means[node]!);
    node = next;
  }
  return -1 - node;
}

/** Return true if each way leads down to one of the leaves. Each leaf and node, but the root, has one parent. */
function isSound(tree: Tree, features: number): boolean {
  const nodes = tree.features.length;
  const { lefts, rights } = tree;
  if (![tree.thresholds, lefts, rights, tree.means].every((each) => each.length === nodes)) return false;
  if (tree.leaves.length !== nodes + 1 || nodes >= MOST_LEAVES) return false;
  const children = [...lefts, ...rights].sort((one, other) => one - other);
  const expected = nodes === 0 ? [] : [...range(-nodes - 1, 0), ...range(1, nodes)];
  const down = [lefts, rights].every((side) => side.every((child, at) => child < 0 || child > at));
  const known = tree.features.every((feature) => feature >= 0 && feature < features);
  return down && known && children.length === expected.length && children.every((child, at) => child === expected[at]);
}

function range(from: number, to: number): number[] {
  return Array.from({ length: Math.max(to - from, 0) }, (_, at) => from + at);
}
