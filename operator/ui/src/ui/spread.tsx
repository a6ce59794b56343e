// How far a change has come: how many gateways know it. Asked every two seconds until all do.
import { useEffect, useRef, useState } from "preact/hooks";
import { get, query } from "../lib/api";
import { t } from "../lib/i18n";
import { asFailure } from "../lib/load";
import { ended } from "../lib/session";
import type { GatewayState } from "../lib/types";
import { say } from "./live";
import { Status } from "./status";

const SECONDS = 2;
/** After this the line says that it still waits, and asks more slowly. */
const PATIENCE = 30;

export interface Spread {
  ready: number;
  wanted: number;
  generation: number;
}

/** Ready and wanted of all gateways, and the newest generation. */
export function spreadOf(gateways: GatewayState[]): Spread {
  return gateways.reduce(
    (sum, each) => ({
      ready: sum.ready + each.ready,
      wanted: sum.wanted + each.wanted,
      generation: Math.max(sum.generation, each.generation),
    }),
    { ready: 0, wanted: 0, generation: 0 },
  );
}

export function SpreadLine({ namespace }: { namespace: string }) {
  const [spread, setSpread] = useState<Spread | undefined>();
  const [trouble, setTrouble] = useState<string | undefined>();
  const turns = useRef(0);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let over = false;
    const ask = async () => {
      turns.current += 1;
      try {
        if (!ended.value) {
          const now = spreadOf(await get<GatewayState[]>(`gateways${query({ namespace })}`));
          if (over) return;
          setSpread(now);
          setTrouble(undefined);
          if (now.wanted > 0 && now.ready >= now.wanted) {
            say(t("gateway.at", { ready: now.ready, wanted: now.wanted, n: now.generation }));
            return;
          }
        }
      } catch (cause) {
        if (!over) setTrouble(asFailure(cause).message);
      }
      if (!over) timer = setTimeout(() => void ask(), (turns.current > PATIENCE ? 10 : 1) * SECONDS * 1000);
    };
    void ask();
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [namespace]);
  if (trouble) return <Status tone="warning" word={trouble} />;
  if (!spread) return <Status tone="muted" icon="rotate" word={t("gateway.asking")} />;
  if (spread.wanted === 0) return <Status tone="muted" word={t("gateway.none")} />;
  const done = spread.ready >= spread.wanted;
  return (
    <Status
      tone={done ? "success" : "accent"}
      icon={done ? "ok" : "rotate"}
      word={t(done ? "gateway.know" : "gateway.learning", {
        ready: spread.ready,
        wanted: spread.wanted,
        n: spread.generation,
      })}
    />
  );
}
