// One polite live region for the whole page: what happened, for those who do not see it.
import { signal } from "@preact/signals";

const said = signal("");

/** Says `text` once. */
export function say(text: string): void {
  // The same text twice would not be read again.
  said.value = said.value === text ? `${text}\u200b` : text;
}

export const LiveRegion = () => (
  <div class="sr-only" role="status" aria-live="polite">
    {said.value}
  </div>
);
