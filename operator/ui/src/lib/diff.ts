// The difference of two texts by lines, for a conflict: what they have, and what you have.

export interface Line {
  sign: " " | "-" | "+";
  text: string;
}

/** The shortest way from `before` to `after`, by the longest common subsequence of lines. */
export function diffLines(before: string, after: string): Line[] {
  const a = before.split("\n");
  const b = after.split("\n");
  const width = b.length + 1;
  const lengths = new Uint32Array((a.length + 1) * width);
  const at = (i: number, j: number) => lengths[i * width + j] ?? 0;
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      lengths[i * width + j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  const lines: Line[] = [];
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      lines.push({ sign: " ", text: a[i] ?? "" });
      i += 1;
      j += 1;
    } else if (i < a.length && (j >= b.length || at(i + 1, j) >= at(i, j + 1))) {
      lines.push({ sign: "-", text: a[i] ?? "" });
      i += 1;
    } else {
      lines.push({ sign: "+", text: b[j] ?? "" });
      j += 1;
    }
  }
  return lines;
}

/** Only what changed, with `around` lines of context; null where lines are left out. */
export function hunks(lines: Line[], around = 2): (Line | null)[] {
  const near = (index: number) =>
    lines.slice(Math.max(0, index - around), index + around + 1).some((each) => each.sign !== " ");
  const kept: (Line | null)[] = [];
  for (const [index, line] of lines.entries()) {
    if (near(index)) kept.push(line);
    else if (kept.at(-1) !== null) kept.push(null);
  }
  return kept;
}
