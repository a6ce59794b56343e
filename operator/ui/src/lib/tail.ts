// The live tail: records as they are written. Pausing keeps them; what is dropped is counted, never silent.
import { useEffect, useRef, useState } from "preact/hooks";
import { whoAmI } from "./api";
import { asFailure } from "./load";
import { ended, signedInAgain } from "./session";
import type { AuditItem } from "./types";

const LIVE = 200;
const PAUSED = 1000;

export interface TailState {
  items: AuditItem[];
  waiting: AuditItem[];
  /** Records that came while paused and were more than are kept. */
  skipped: number;
  state: "off" | "connecting" | "live" | "lost";
  /** True after the server could not go on where the connection broke: some records are only in the list. */
  resynced: boolean;
}

export const START: TailState = { items: [], waiting: [], skipped: 0, state: "off", resynced: false };

/** Takes a record in: shown at once, or kept while paused. A record that is known is not shown twice. */
export function take(tail: TailState, item: AuditItem, paused: boolean): TailState {
  if (tail.items.some((each) => each.id === item.id) || tail.waiting.some((each) => each.id === item.id)) return tail;
  if (!paused) return { ...tail, items: [item, ...tail.items].slice(0, LIVE) };
  const waiting = [item, ...tail.waiting];
  const skipped = tail.skipped + Math.max(0, waiting.length - PAUSED);
  return { ...tail, waiting: waiting.slice(0, PAUSED), skipped };
}

/** Shows what waited. */
export const release = (tail: TailState): TailState => ({
  ...tail,
  items: [...tail.waiting, ...tail.items].slice(0, PAUSED),
  waiting: [],
});

/** Follows the records that fit `path` while `on`. */
export function useTail(path: string, on: boolean, paused: boolean): [TailState, () => void] {
  const [tail, setTail] = useState<TailState>(START);
  const [turn, setTurn] = useState(0);
  const held = useRef(paused);
  held.current = paused;
  useEffect(() => {
    setTail(START);
    if (!on) return;
    let over = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const source = new EventSource(`/api/v1/${path}`);
    setTail({ ...START, state: "connecting" });
    source.addEventListener("open", () => setTail((old) => ({ ...old, state: "live" })));
    source.addEventListener("record", (event) => {
      const item = JSON.parse((event as MessageEvent<string>).data) as AuditItem;
      setTail((old) => take(old, item, held.current));
    });
    source.addEventListener("resync", () => setTail((old) => ({ ...old, resynced: true })));
    const closed = async () => {
      // Closed for good: the session may have ended. One question tells, and then it waits for the person.
      const status = await whoAmI().then(
        () => 0,
        (cause) => asFailure(cause).status,
      );
      if (over) return;
      if (status === 401 && !ended.value) await signedInAgain();
      timer = setTimeout(() => setTurn((each) => each + 1), status === 401 ? 0 : 10_000);
    };
    source.addEventListener("error", () => {
      setTail((old) => ({ ...old, state: "lost" }));
      if (source.readyState === EventSource.CLOSED) void closed();
    });
    return () => {
      over = true;
      clearTimeout(timer);
      source.close();
    };
  }, [path, on, turn]);
  return [tail, () => setTail(release)];
}
