// Shortcuts of the keyboard. They never act while somebody writes.
import { useEffect } from "preact/hooks";
import { go } from "../lib/router";

/** After `g`: the page of each letter. */
export const GO: Record<string, string> = {
  h: "/",
  t: "/topology",
  s: "/standards",
  p: "/policies",
  f: "/federations",
  c: "/credentials",
  b: "/bindings",
  m: "/matrix",
  a: "/audit",
  l: "/models",
  e: "/explain",
  d: "/decoder",
  k: "/my-access",
  r: "/requests",
};

const writes = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

export function useShortcuts(onHelp: () => void): void {
  useEffect(() => {
    let afterG = 0;
    const press = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || writes(event.target)) return;
      if (document.querySelector("dialog[open]")) return;
      const to = GO[event.key];
      if (event.timeStamp - afterG < 1500 && to) {
        event.preventDefault();
        afterG = 0;
        go(to);
      } else if (event.key === "g") afterG = event.timeStamp;
      else if (event.key === "/") {
        event.preventDefault();
        (document.getElementById("search") ?? document.getElementById("seek"))?.focus();
      } else if (event.key === "?") onHelp();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [onHelp]);
}
