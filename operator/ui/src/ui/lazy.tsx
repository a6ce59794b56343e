// A component that is fetched when it is first shown.
import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { asFailure } from "../lib/load";
import type { Failure } from "../lib/api";
import { FailureNotice, Skeleton } from "./states";

export function lazy<P extends object>(load: () => Promise<ComponentType<P>>): ComponentType<P> {
  let known: ComponentType<P> | undefined;
  return function Lazy(props: P) {
    const [Part, setPart] = useState<ComponentType<P> | undefined>(() => known);
    const [error, setError] = useState<Failure | undefined>();
    const [turn, setTurn] = useState(0);
    useEffect(() => {
      if (known) return;
      setError(undefined);
      load().then(
        (part) => {
          known = part;
          setPart(() => part);
        },
        (cause) => setError(asFailure(cause)),
      );
    }, [turn]);
    if (Part) return <Part {...props} />;
    return error ? <FailureNotice error={error} retry={() => setTurn(turn + 1)} /> : <Skeleton />;
  };
}
