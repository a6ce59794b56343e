// Reads from the server with every state a page must show: loading, failed, good, and good but old.
import { useEffect, useRef, useState } from "preact/hooks";
import { Failure, get } from "./api";
import { ended } from "./session";

export interface Load<T> {
  data: T | undefined;
  error: Failure | undefined;
  /** When `data` came, in milliseconds; 0 before. */
  at: number;
  busy: boolean;
  reload: () => void;
}

/** Any thrown thing as a failure that can be shown. */
export const asFailure = (cause: unknown): Failure =>
  cause instanceof Failure ? cause : new Failure(0, "Failed", cause instanceof Error ? cause.message : String(cause));

/**
 * Loads when `key` changes and then every `seconds`. Old data stays while new data is on its way or does not come;
 * another key drops it, unless the keys share the part before a `#`. A hidden tab and an ended session ask nothing.
 */
export function useLoad<T>(key: string, read: (signal: AbortSignal) => Promise<T>, seconds?: number): Load<T> {
  const [state, setState] = useState<{ key: string; data?: T; error?: Failure; at: number; busy: boolean }>({
    key,
    at: 0,
    busy: true,
  });
  const [turn, setTurn] = useState(0);
  const reader = useRef(read);
  reader.current = read;

  useEffect(() => {
    const abort = new AbortController();
    const family = key.split("#")[0];
    setState((old) => (old.key.split("#")[0] === family ? { ...old, key, busy: true } : { key, at: 0, busy: true }));
    const once = async () => {
      try {
        const data = await reader.current(abort.signal);
        if (!abort.signal.aborted) setState({ key, data, at: Date.now(), busy: false });
      } catch (cause) {
        if (!abort.signal.aborted) setState((old) => ({ ...old, error: asFailure(cause), busy: false }));
      }
    };
    void once();
    const timer = seconds
      ? setInterval(() => {
          if (!document.hidden && !ended.value) void once();
        }, seconds * 1000)
      : undefined;
    return () => {
      abort.abort();
      clearInterval(timer);
    };
  }, [key, turn, seconds]);

  const known = state.key.split("#")[0] === key.split("#")[0];
  return {
    data: known ? state.data : undefined,
    error: known ? state.error : undefined,
    at: state.at,
    busy: state.busy,
    reload: () => setTurn((each) => each + 1),
  };
}

/** Loads what the API has at `path`; the path is the key. */
export const useRead = <T>(path: string, seconds?: number): Load<T> =>
  useLoad<T>(path, (signal) => get<T>(path, signal), seconds);
