// A YAML document that is edited in place: comments and everything that nobody touched stay.
import { type Document, isCollection, isMap, isSeq, parseDocument, parse } from "yaml";

export type Path = (string | number)[];

/** One document, or why the text is none. */
export function open(text: string): { document: Document; problem?: undefined } | { problem: string } {
  const document = parseDocument(text, { keepSourceTokens: false });
  const first = document.errors[0];
  if (first) return { problem: first.message };
  if (document.contents !== null && !isMap(document.contents)) return { problem: "The text is not one object." };
  return { document };
}

/** The text, in the manner of `before`: its padding of `{}` and its indentation of lists. */
export function write(document: Document, before: string): string {
  return document.toString({
    lineWidth: 0,
    flowCollectionPadding: /\{ \S/.test(before) || !/\{\S/.test(before),
    indentSeq: !/^( *)[^\s#][^\n]*:[ \t]*\n\1- /m.test(before),
  });
}

function edit(text: string, change: (document: Document) => void): string {
  const opened = open(text);
  if (opened.problem !== undefined) return text;
  change(opened.document);
  return write(opened.document, text);
}

/** Makes every step of the way a collection: `apiKey:` with nothing behind it is a null. */
function clearTheWay(document: Document, path: Path): void {
  for (let depth = 1; depth < path.length; depth += 1) {
    const way = path.slice(0, depth);
    const node = document.getIn(way, true);
    if (node !== undefined && !isCollection(node)) document.setIn(way, document.createNode({}));
  }
}

/** Sets the value at a path. */
export const setAt = (text: string, path: Path, value: unknown): string =>
  edit(text, (document) => {
    clearTheWay(document, path);
    const scalar = value === null || typeof value !== "object";
    document.setIn(path, scalar ? value : document.createNode(value));
  });

/** Removes what is at a path. */
export const removeAt = (text: string, path: Path): string =>
  edit(text, (document) => {
    document.deleteIn(path);
  });

/** Adds an entry at the end of the list at a path. */
export const appendAt = (text: string, path: Path, value: unknown): string =>
  edit(text, (document) => {
    clearTheWay(document, path);
    if (isSeq(document.getIn(path, true))) document.addIn(path, document.createNode(value));
    else document.setIn(path, document.createNode([value]));
  });

/** Moves an entry of a list by one place. */
export const moveAt = (text: string, path: Path, index: number, by: -1 | 1): string =>
  edit(text, (document) => {
    const list = document.getIn(path, true);
    const other = index + by;
    if (!isSeq(list) || other < 0 || other >= list.items.length) return;
    [list.items[index], list.items[other]] = [list.items[other], list.items[index]];
  });

/** A part as YAML of its own, and back. */
export const partOf = (text: string, path: Path): string => {
  const opened = open(text);
  const node = opened.problem === undefined ? opened.document.getIn(path, true) : undefined;
  if (node === undefined || opened.problem !== undefined) return "";
  const part = parseDocument("");
  part.contents = node as typeof part.contents;
  return part.toString({ lineWidth: 0 }).trimEnd();
};

/** A value that somebody wrote as YAML; throws with the reason when it is none. */
export const valueOf = (text: string): unknown => parse(text) as unknown;

/** The parts of a finding's field: `spec.methods[staff].jwt` is `spec`, `methods`, `[staff]`, `jwt`. */
export function steps(field: string): string[] {
  return field.match(/\[[^\]]*\]|[^.[\]]+/g) ?? [];
}

/** The path that a finding's field means in `value`: entries of lists by index, or by their name or other key. */
export function resolve(field: string, value: unknown): Path {
  const path: Path = [];
  let here: unknown = value;
  for (const step of steps(field)) {
    if (!step.startsWith("[")) {
      path.push(step);
      here = typeof here === "object" && here !== null ? (here as Record<string, unknown>)[step] : undefined;
      continue;
    }
    const key = step.slice(1, -1);
    if (!Array.isArray(here)) return path;
    const list = here as unknown[];
    const named = list.findIndex((each) =>
      typeof each === "object" && each !== null
        ? (each as Record<string, unknown>)["name"] === key || Object.values(each).includes(key)
        : each === key,
    );
    const index = named >= 0 ? named : /^\d+$/.test(key) ? Number(key) : -1;
    if (index < 0 || index >= list.length) return path;
    path.push(index);
    here = list[index];
  }
  return path;
}

/** The whole text as plain data. */
export function dataOf(text: string): Record<string, unknown> {
  const opened = open(text);
  if (opened.problem !== undefined) return {};
  return (opened.document.toJS() ?? {}) as Record<string, unknown>;
}
