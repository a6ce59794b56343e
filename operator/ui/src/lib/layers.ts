// The picture of a topology: columns by kind, order within a column by the neighbours, so that few lines cross.
import type { Topology, TopologyEdge, TopologyNode } from "./types";

const RANKS: Record<string, number> = {
  IdentityPolicy: 0,
  Gateway: 1,
  HTTPRoute: 2,
  GRPCRoute: 2,
  Rule: 3,
  Service: 4,
};
export const NODE = { width: 172, height: 44, gapX: 28, gapY: 14, top: 34 };

export interface Placed extends TopologyNode {
  x: number;
  y: number;
  rank: number;
  row: number;
}
export interface Drawing {
  nodes: Placed[];
  edges: (TopologyEdge & { path: string })[];
  width: number;
  height: number;
  columns: string[];
}

const rankOf = (kind: string): number => RANKS[kind] ?? 0;

function neighbours(edges: TopologyEdge[]): Map<string, string[]> {
  const map = new Map<string, string[]>();
  for (const { from, to } of edges) {
    map.set(from, [...(map.get(from) ?? []), to]);
    map.set(to, [...(map.get(to) ?? []), from]);
  }
  return map;
}

/** Puts every node at its place. */
export function lay({ nodes, edges }: Topology): Drawing {
  const near = neighbours(edges);
  const columns: TopologyNode[][] = [[], [], [], [], []];
  for (const node of nodes) columns[rankOf(node.kind)]?.push(node);
  const place = new Map<string, number>();
  const note = () =>
    columns.forEach((column) =>
      column.forEach((node, row) => place.set(node.id, row / Math.max(1, column.length - 1))),
    );
  note();
  // A few sweeps of barycentres are enough for what a person can read.
  for (let sweep = 0; sweep < 6; sweep += 1) {
    for (const column of columns) {
      const weight = new Map(
        column.map((node) => {
          const around = (near.get(node.id) ?? []).map((each) => place.get(each) ?? 0);
          return [
            node.id,
            around.length ? around.reduce((sum, each) => sum + each, 0) / around.length : (place.get(node.id) ?? 0),
          ];
        }),
      );
      column.sort((a, b) => (weight.get(a.id) ?? 0) - (weight.get(b.id) ?? 0) || a.name.localeCompare(b.name));
      note();
    }
  }
  const tallest = Math.max(1, ...columns.map((each) => each.length));
  const step = NODE.height + NODE.gapY;
  const used = columns.map((column, rank) => ({ column, rank })).filter(({ column }) => column.length > 0);
  const placed = used.flatMap(({ column, rank }, index) =>
    column.map((node, row): Placed => ({
      ...node,
      rank,
      row,
      x: index * (NODE.width + NODE.gapX),
      y: NODE.top + ((tallest - column.length) * step) / 2 + row * step,
    })),
  );
  const byId = new Map(placed.map((each) => [each.id, each]));
  return {
    nodes: placed,
    edges: edges.flatMap((edge) => {
      const [a, b] = [byId.get(edge.from), byId.get(edge.to)];
      return a && b ? [{ ...edge, path: curve(a, b) }] : [];
    }),
    width: used.length * (NODE.width + NODE.gapX) - NODE.gapX,
    height: NODE.top + tallest * step,
    columns: used.map(({ column }) => column[0]?.kind ?? ""),
  };
}

function curve(a: Placed, b: Placed): string {
  const [left, right] = a.x <= b.x ? [a, b] : [b, a];
  const [from, to] = [left.y + NODE.height / 2, right.y + NODE.height / 2];
  if (left.x === right.x) {
    const x = left.x + NODE.width;
    return `M${x},${from}C${x + 40},${from},${x + 40},${to},${x},${to}`;
  }
  const [x1, x2] = [left.x + NODE.width, right.x];
  const bend = Math.min(60, (x2 - x1) / 2);
  return `M${x1},${from}C${x1 + bend},${from},${x2 - bend},${to},${x2},${to}`;
}

/** The node that an arrow leads to: left and right along lines, up and down in the column. */
export function walk(drawing: Drawing, id: string, key: string): string | undefined {
  const here = drawing.nodes.find((each) => each.id === id);
  if (!here) return undefined;
  if (key === "ArrowUp" || key === "ArrowDown") {
    const row = here.row + (key === "ArrowUp" ? -1 : 1);
    return drawing.nodes.find((each) => each.rank === here.rank && each.row === row)?.id;
  }
  if (key !== "ArrowLeft" && key !== "ArrowRight") return undefined;
  const joined = drawing.edges.flatMap((each) => (each.from === id ? [each.to] : each.to === id ? [each.from] : []));
  const side = drawing.nodes.filter(
    (each) => joined.includes(each.id) && (key === "ArrowLeft" ? each.x < here.x : each.x > here.x),
  );
  side.sort(
    (a, b) => Math.abs(a.x - here.x) - Math.abs(b.x - here.x) || Math.abs(a.y - here.y) - Math.abs(b.y - here.y),
  );
  return side[0]?.id;
}
