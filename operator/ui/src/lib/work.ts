// One piece of work that a person starts: it runs once at a time, and ends with a result or a failure.
import { useRef, useState } from "preact/hooks";
import type { Failure } from "./api";
import { asFailure } from "./load";

export interface Work<T> {
  busy: boolean;
  result: T | undefined;
  error: Failure | undefined;
  /** Begins; of an event that submits a form, nothing else comes. */
  start: (event?: Event) => void;
}

/** The work of a form or a button. What the work did before is forgotten when it begins again. */
export function useWork<T>(work: () => Promise<T>): Work<T> {
  const [state, setState] = useState<Omit<Work<T>, "start">>({ busy: false, result: undefined, error: undefined });
  // State is shown a moment later: a second click may come before.
  const running = useRef(false);
  const run = async () => {
    running.current = true;
    setState({ busy: true, result: undefined, error: undefined });
    try {
      const result = await work();
      setState({ busy: false, result, error: undefined });
    } catch (cause) {
      setState({ busy: false, result: undefined, error: asFailure(cause) });
    } finally {
      running.current = false;
    }
  };
  const start = (event?: Event) => {
    event?.preventDefault();
    if (!running.current) void run();
  };
  return { ...state, start };
}
