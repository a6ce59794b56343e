// Buttons. An action that the person may not do is there, disabled, and says what is missing and who can give it.
import type { ComponentChildren } from "preact";
import { useId, useState } from "preact/hooks";
import { t } from "../lib/i18n";
import { useMissing } from "../lib/permissions";
import type { Missing } from "../lib/types";
import { Icon, type IconName } from "./icon";
import { say } from "./live";

interface ButtonProps {
  children?: ComponentChildren;
  onClick?: (() => void) | undefined;
  kind?: "primary" | "danger" | "plain";
  icon?: IconName | undefined;
  busy?: boolean;
  disabled?: boolean;
  submit?: boolean;
  label?: string;
  pressed?: boolean;
}

export const Button = ({ children, onClick, kind, icon, busy, disabled, submit, label, pressed }: ButtonProps) => (
  <button
    type={submit ? "submit" : "button"}
    class={`button ${kind ?? ""}${children ? "" : " square"}`}
    onClick={onClick}
    disabled={disabled || busy}
    aria-busy={busy ? "true" : undefined}
    aria-label={label}
    aria-pressed={pressed}
    title={label}
  >
    {icon && <Icon name={icon} />}
    {children}
  </button>
);

/** The sentence about a missing permission. */
export function missingText(missing: Missing): string {
  const need = missing.scope
    ? t("may.need", { permission: missing.permission, scope: missing.scope })
    : t("may.needAnywhere", { permission: missing.permission });
  if (missing.grantedBy.length) return `${need} ${t("may.ask", { people: missing.grantedBy.join(", ") })}`;
  return missing.whoCan ? `${need} ${t("may.whoCan", { command: missing.whoCan })}` : need;
}

interface ActProps extends ButtonProps {
  /** The kind of object and the verb, as in `me.permissions`. */
  need: [kind: string, verb: string];
  namespace?: string | undefined;
}

/** A button for something that needs a permission. */
export function Act({ need, namespace, ...button }: ActProps) {
  const lacking = useMissing(need[0], need[1], namespace);
  return lacking ? <Barred {...button} why={missingText(lacking)} /> : <Button {...button} />;
}

/** A button that is there and does nothing, and says why. */
export function Barred({ why, ...button }: ButtonProps & { why: string }) {
  const id = useId();
  const [open, setOpen] = useState(false);
  // aria-disabled and not disabled: the reason must be reachable by keyboard.
  return (
    <span class="act" onMouseEnter={() => setOpen(true)} onMouseLeave={() => setOpen(false)}>
      <button
        type="button"
        class={`button ${button.kind ?? ""}${button.children ? "" : " square"}`}
        aria-disabled="true"
        aria-describedby={id}
        aria-label={button.label}
        onClick={() => {
          setOpen(true);
          say(why);
        }}
        onFocus={() => setOpen(true)}
        onBlur={() => setOpen(false)}
        onKeyDown={(event) => {
          if (event.key === "Escape") setOpen(false);
        }}
      >
        <Icon name="lock" />
        {button.children}
      </button>
      <span id={id} role="tooltip" class={open ? "tip open" : "tip"}>
        {why}
      </span>
    </span>
  );
}

/** Copies a text, and says so. */
export function Copy({ text, children, label }: { text: string; children?: ComponentChildren; label?: string }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setDone(true);
      say(t("copy.done"));
      setTimeout(() => setDone(false), 2000);
    } catch {
      say(t("copy.failed"));
    }
  };
  const name = label ?? t("do.copy");
  return (
    <Button
      icon={done ? "ok" : "copy"}
      onClick={() => void copy()}
      {...(children ? {} : { label: name, kind: "plain" })}
    >
      {children && (done ? t("copy.done") : children)}
    </Button>
  );
}
