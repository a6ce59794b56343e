// Objects and what protects them: a picture in layers and the same as a table. Many nodes begin with the table.
import { useMemo, useRef, useState } from "preact/hooks";
import { query } from "../lib/api";
import { t, tn } from "../lib/i18n";
import { lay, NODE, walk, type Placed } from "../lib/layers";
import { useRead } from "../lib/load";
import { chosenNamespace, go, objectPath } from "../lib/router";
import type { NodeState, Topology, TopologyNode } from "../lib/types";
import { Button } from "../ui/button";
import type { IconName } from "../ui/icon";
import { TextField } from "../ui/field";
import { Page } from "../ui/page";
import { Empty, Loaded, Notice } from "../ui/states";
import { Status, type Tone } from "../ui/status";
import { Table } from "../ui/table";

const TONES: Record<NodeState, Tone> = { Enforced: "success", Overridden: "muted", Broken: "danger", Open: "warning" };
const SIGNS: Record<NodeState, string> = { Enforced: "✓", Overridden: "–", Broken: "✕", Open: "!" };
/** More objects than this begin with the table, and a picture shows so many and their neighbours. */
const MANY = 200;
/** Rows of a page of the table. */
const ROWS = 100;
/** Relations that one row names. */
const MOST_LISTED = 8;

const StateOf = ({ node }: { node: TopologyNode }) => {
  const icon: IconName | undefined = node.state === "Open" ? "warning" : undefined;
  return <Status tone={TONES[node.state]} word={node.state} {...(icon ? { icon } : {})} />;
};

function Picture({ topology }: { topology: Topology }) {
  const drawing = useMemo(() => lay(topology), [topology]);
  const [at, setAt] = useState(drawing.nodes[0]?.id ?? "");
  const [lit, setLit] = useState<string | undefined>();
  const svg = useRef<SVGSVGElement>(null);
  const press = (event: KeyboardEvent, node: Placed) => {
    const to = objectPath(node.kind, node.namespace, node.name);
    if (event.key === "Enter" && to) return go(to);
    const next = walk(drawing, node.id, event.key);
    if (!next) return;
    event.preventDefault();
    setAt(next);
    const found = [...(svg.current?.querySelectorAll<SVGGElement>("g.node") ?? [])].find(
      (each) => each.dataset["id"] === next,
    );
    found?.focus();
  };
  const focus = lit ?? undefined;
  const near = (id: string) =>
    !focus ||
    focus === id ||
    drawing.edges.some((each) => (each.from === focus && each.to === id) || (each.to === focus && each.from === id));
  const short = (text: string, most: number) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
  return (
    <div class="card picture">
      <svg
        ref={svg}
        viewBox={`-2 0 ${drawing.width + 4} ${drawing.height + 4}`}
        width={drawing.width}
        role="group"
        aria-label={t("topology.picture")}
      >
        {drawing.columns.map((kind, index) => (
          <text key={kind} class="column" x={index * (NODE.width + NODE.gapX)} y="16">
            {kind}
          </text>
        ))}
        {drawing.edges.map((each, index) => (
          <path
            key={index}
            d={each.path}
            class={`edge ${each.kind}${focus && (each.from === focus || each.to === focus) ? " lit" : ""}`}
          />
        ))}
        {drawing.nodes.map((node) => (
          <g
            key={node.id}
            data-id={node.id}
            class={`node ${node.state}${near(node.id) ? "" : " dim"}`}
            transform={`translate(${node.x},${node.y})`}
            tabIndex={node.id === at ? 0 : -1}
            role="link"
            aria-roledescription={node.kind}
            onFocus={() => {
              setAt(node.id);
              setLit(node.id);
            }}
            onBlur={() => setLit(undefined)}
            onMouseEnter={() => setLit(node.id)}
            onMouseLeave={() => setLit(undefined)}
            onKeyDown={(event) => press(event, node)}
            onClick={() => {
              const to = objectPath(node.kind, node.namespace, node.name);
              if (to) go(to);
            }}
          >
            <rect width={NODE.width} height={NODE.height} rx="6" />
            <text aria-hidden="true" class="sign" x="14" y="27" text-anchor="middle">
              {SIGNS[node.state]}
            </text>
            <text class="name" x="28" y="19">
              {short(node.name, 20)}
            </text>
            <text class="state" x="28" y="35">
              {node.state} · {short(node.namespace, 13)}
            </text>
            {node.note && <title>{node.note}</title>}
          </g>
        ))}
      </svg>
      <p class="muted small">{t("topology.keys")}</p>
    </div>
  );
}

/** The objects that fit a search. */
export function fitting(topology: Topology, search: string): TopologyNode[] {
  const wanted = search.trim().toLowerCase();
  if (!wanted) return topology.nodes;
  const has = (node: TopologyNode) =>
    [node.name, node.kind, node.namespace, node.state, node.note].some((each) => each?.toLowerCase().includes(wanted));
  return topology.nodes.filter(has);
}

/** The part that is drawn: the objects that fit and their neighbours, and no more than can be read. */
export function drawn(topology: Topology, nodes: TopologyNode[]): Topology {
  const wanted = new Set(nodes.slice(0, MANY).map((each) => each.id));
  const shown = new Set(wanted);
  for (const { from, to } of topology.edges) {
    if (shown.size >= 2 * MANY) break;
    if (wanted.has(from)) shown.add(to);
    if (wanted.has(to)) shown.add(from);
  }
  return {
    nodes: topology.nodes.filter((each) => shown.has(each.id)),
    edges: topology.edges.filter((each) => shown.has(each.from) && shown.has(each.to)),
  };
}

/** The relations that begin at each object, in words. */
function relations({ nodes, edges }: Topology): Map<string, string> {
  const names = new Map(nodes.map((each) => [each.id, each.name]));
  const all = new Map<string, string[]>();
  for (const { from, to, kind } of edges) {
    const known = all.get(from);
    const text = `${kind} ${names.get(to) ?? to}`;
    if (known) known.push(text);
    else all.set(from, [text]);
  }
  return new Map([...all].map(([id, texts]) => [id, listed(texts)]));
}

const listed = (texts: string[]): string =>
  texts.length > MOST_LISTED
    ? `${texts.slice(0, MOST_LISTED).join(", ")}, +${texts.length - MOST_LISTED}`
    : texts.join(", ");

function Rows({ topology, nodes }: { topology: Topology; nodes: TopologyNode[] }) {
  const [page, setPage] = useState(0);
  const leads = useMemo(() => relations(topology), [topology]);
  const last = Math.max(0, Math.ceil(nodes.length / ROWS) - 1);
  const at = Math.min(page, last);
  return (
    <>
      <Table
        caption={t("topology.table")}
        rows={nodes.slice(at * ROWS, (at + 1) * ROWS)}
        rowKey={(node) => node.id}
        columns={[
          {
            title: t("col.name"),
            head: true,
            cell: (node) => {
              const to = objectPath(node.kind, node.namespace, node.name);
              return (
                <>
                  {to ? <a href={to}>{node.name}</a> : node.name}
                  <span class="sub">
                    {node.kind} · {node.namespace}
                  </span>
                </>
              );
            },
          },
          { title: t("col.status"), cell: (node) => <StateOf node={node} /> },
          { title: t("topology.leads"), cell: (node) => leads.get(node.id) ?? "–" },
          { title: t("topology.note"), minor: true, cell: (node) => node.note ?? "" },
        ]}
      />
      {last > 0 && (
        <nav class="pager" aria-label={t("list.pages")}>
          <span>{t("topology.page", { n: at + 1, all: last + 1 })}</span>
          <span class="actions">
            <Button icon="left" disabled={at === 0} onClick={() => setPage(at - 1)}>
              {t("list.back")}
            </Button>
            <Button icon="right" disabled={at === last} onClick={() => setPage(at + 1)}>
              {t("list.next")}
            </Button>
          </span>
        </nav>
      )}
    </>
  );
}

function Filled({ topology }: { topology: Topology }) {
  const [way, setWay] = useState<"picture" | "table">(topology.nodes.length > MANY ? "table" : "picture");
  const [search, setSearch] = useState("");
  const nodes = useMemo(() => fitting(topology, search), [topology, search]);
  const part = useMemo(
    () => (search || nodes.length > MANY ? drawn(topology, nodes) : topology),
    [topology, nodes, search],
  );
  if (topology.nodes.length === 0) {
    return (
      <div class="card">
        <Empty title={t("topology.none")} icon="graph">
          <pre class="code">kubectl apply -f config/samples/orders.yaml</pre>
        </Empty>
      </div>
    );
  }
  return (
    <>
      <div class="tools-row">
        <Button pressed={way === "picture"} icon="graph" onClick={() => setWay("picture")}>
          {t("topology.asPicture")}
        </Button>
        <Button pressed={way === "table"} icon="grid" onClick={() => setWay("table")}>
          {t("topology.asTable")}
        </Button>
        <TextField
          label={t("topology.search")}
          type="search"
          value={search}
          onInput={setSearch}
          attributes={{ id: "search" }}
        />
        <span class="muted">{tn("topology.nodes", nodes.length)}</span>
      </div>
      {nodes.length === 0 ? (
        <p class="card muted">{t("list.noMatch")}</p>
      ) : way === "picture" ? (
        <>
          {nodes.length > MANY && (
            <Notice tone="note">
              <p>{t("topology.part", { n: MANY, all: nodes.length.toLocaleString() })}</p>
            </Notice>
          )}
          <Picture key={search} topology={part} />
        </>
      ) : (
        <Rows key={search} topology={topology} nodes={nodes} />
      )}
    </>
  );
}

export function TopologyPage() {
  const namespace = chosenNamespace();
  const path = `topology${query({ namespace })}`;
  const load = useRead<Topology>(path, 60);
  return (
    <Page title={t("nav.topology")} lead={t("topology.lead")}>
      <Loaded load={load} rows={10}>
        {(topology) => <Filled key={path} topology={topology} />}
      </Loaded>
    </Page>
  );
}
