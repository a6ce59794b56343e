// Status is always shape, word and colour together.
import { Icon, type IconName } from "./icon";
import { t } from "../lib/i18n";
import type { Ready } from "../lib/types";

export type Tone = "success" | "warning" | "danger" | "muted" | "accent";
const SHAPES: Record<Tone, IconName> = {
  success: "ok",
  warning: "warning",
  danger: "bad",
  muted: "off",
  accent: "note",
};

export const Status = ({ tone, word, icon, title }: { tone: Tone; word: string; icon?: IconName; title?: string }) => (
  <span class="status" title={title}>
    <Icon name={icon ?? SHAPES[tone]} tone={tone} />
    {word}
  </span>
);

export function ReadyStatus({ ready, suspended }: { ready: Ready; suspended?: boolean }) {
  if (suspended) return <Status tone="muted" icon="pause" word={t("state.suspended")} />;
  const title = [ready.reason, ready.message].filter(Boolean).join(": ");
  if (ready.status === "True") return <Status tone="success" word={t("state.ready")} title={title} />;
  if (ready.status === "False")
    return <Status tone="danger" word={ready.reason || t("state.notReady")} title={title} />;
  return <Status tone="warning" icon="unknown" word={ready.reason || t("state.unknown")} title={title} />;
}

const OUTCOMES: Record<string, Tone> = {
  Permitted: "success",
  Denied: "danger",
  Failed: "warning",
  Created: "accent",
  Updated: "accent",
  Deleted: "warning",
};
const SIGNS: Record<string, IconName> = { Created: "plus", Updated: "edit", Deleted: "trash", Found: "explain" };

/** The icon alone, where the word stands beside it anyway. */
export const Sign = ({ value }: { value: string }) => {
  const tone = OUTCOMES[value] ?? "muted";
  return <Icon name={SIGNS[value] ?? SHAPES[tone]} tone={`${tone} inline`} />;
};

/** The outcome of a decision, or the action of a change. */
export const Outcome = ({ value }: { value: string }) => {
  const icon = SIGNS[value];
  return <Status tone={OUTCOMES[value] ?? "muted"} word={value} {...(icon ? { icon } : {})} />;
};
