// Objects and what protects them: a picture in layers and the same as a table. Many nodes begin with the table.
import { useMemo, useRef, useState } from "preact/hooks";
import { get, query } from "../lib/api";
import { t, tn } from "../lib/i18n";
import { lay, NODE, walk, type Placed } from "../lib/layers";
import { useLoad } from "../lib/load";
import { go, objectPath, place } from "../lib/router";
import type { NodeState, Topology, TopologyNode } from "../lib/types";
import { Button } from "../ui/button";
import type { IconName } from "../ui/icon";
import { Page } from "../ui/page";
import { Empty, Loaded } from "../ui/states";
import { Status, type Tone } from "../ui/status";
import { Table } from "../ui/table";

const TONES: Record<NodeState, Tone> = { Enforced: "success", Overridden: "muted", Broken: "danger", Open: "warning" };
const SIGNS: Record<NodeState, string> = { Enforced: "✓", Overridden: "–", Broken: "✕", Open: "!" };
const MANY = 200;

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
  const short = (text: string) => (text.length > 23 ? `${text.slice(0, 22)}…` : text);
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
              {short(node.name)}
            </text>
            <text class="state" x="28" y="35">
              {node.state} · {short(node.namespace)}
            </text>
            {node.note && <title>{node.note}</title>}
          </g>
        ))}
      </svg>
      <p class="muted small">{t("topology.keys")}</p>
    </div>
  );
}

function Rows({ topology }: { topology: Topology }) {
  const nameOf = new Map(topology.nodes.map((each) => [each.id, each.name]));
  return (
    <Table
      caption={t("topology.table")}
      rows={topology.nodes}
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
        {
          title: t("topology.leads"),
          cell: (node) =>
            topology.edges
              .filter((each) => each.from === node.id)
              .map((each) => `${each.kind} ${nameOf.get(each.to) ?? each.to}`)
              .join(", ") || "–",
        },
        { title: t("topology.note"), minor: true, cell: (node) => node.note ?? "" },
      ]}
    />
  );
}

function Filled({ topology }: { topology: Topology }) {
  const [way, setWay] = useState<"picture" | "table">(topology.nodes.length > MANY ? "table" : "picture");
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
        <span class="muted">{tn("topology.nodes", topology.nodes.length)}</span>
      </div>
      {way === "picture" ? <Picture topology={topology} /> : <Rows topology={topology} />}
    </>
  );
}

export function TopologyPage() {
  const namespace = place.value.query.get("ns") ?? undefined;
  const path = `topology${query({ namespace })}`;
  const load = useLoad<Topology>(path, (signal) => get(path, signal), 60);
  return (
    <Page title={t("nav.topology")} lead={t("topology.lead")}>
      <Loaded load={load} rows={10}>
        {(topology) => <Filled key={path} topology={topology} />}
      </Loaded>
    </Page>
  );
}
