// The states that every page has: loading, empty, failed, stale. Content is shown only when it is there.
import type { ComponentChildren } from "preact";
import type { Failure } from "../lib/api";
import { t } from "../lib/i18n";
import type { Load } from "../lib/load";
import { relative, stamp } from "../lib/time";
import { Button, Copy, missingText } from "./button";
import { Icon, type IconName } from "./icon";

export type NoticeTone = "note" | "warning" | "danger" | "success";
const ICONS: Record<NoticeTone, IconName> = { note: "note", warning: "warning", danger: "bad", success: "ok" };

interface NoticeProps {
  tone: NoticeTone;
  title?: string;
  children?: ComponentChildren;
  alert?: boolean;
}

export const Notice = ({ tone, title, children, alert }: NoticeProps) => (
  <div class={`notice ${tone}`} role={alert ? "alert" : undefined}>
    <Icon name={ICONS[tone]} tone={tone === "note" ? "accent" : tone} />
    <div class="notice-text">
      {title && <strong>{title}</strong>}
      {children}
    </div>
  </div>
);

/** A failure: cause, id for the log, and the way to try again. */
export const FailureNotice = ({ error, retry }: { error: Failure; retry?: () => void }) => (
  <Notice tone="danger" title={t(error.status === 403 ? "error.forbidden" : "error.title")} alert>
    <p>{error.message}</p>
    {error.missing && <p>{missingText(error.missing)}</p>}
    {error.field && (
      <p>
        {t("error.field")} <code>{error.field}</code>
      </p>
    )}
    {error.id && (
      <p class="muted">
        {t("error.id")} <code>{error.id}</code> <Copy text={error.id} label={t("copy.id")} />
      </p>
    )}
    {retry && (
      <p>
        <Button icon="rotate" onClick={retry}>
          {t("do.retry")}
        </Button>
      </p>
    )}
  </Notice>
);

export const Skeleton = ({ rows = 6 }: { rows?: number }) => (
  <div class="skeleton" role="status" aria-label={t("state.loading")}>
    {Array.from({ length: rows }, (_, index) => (
      <div key={index} class="bone" />
    ))}
  </div>
);

export const Empty = ({ title, children, icon }: { title: string; children?: ComponentChildren; icon?: IconName }) => (
  <div class="empty">
    <Icon name={icon ?? "off"} tone="muted" />
    <p class="empty-title">{title}</p>
    {children}
  </div>
);

interface LoadedProps<T> {
  load: Load<T>;
  rows?: number;
  children: (data: T) => ComponentChildren;
}

/** Shows what is loaded, however far that is. */
export function Loaded<T>({ load, rows, children }: LoadedProps<T>) {
  const { data, error, at } = load;
  if (data === undefined)
    return error ? <FailureNotice error={error} retry={load.reload} /> : <Skeleton rows={rows ?? 6} />;
  return (
    <>
      {error && (
        <Notice tone="warning" title={t("stale.title", { age: relative(at) })} alert>
          <p>{t("stale.text", { time: stamp(at), cause: error.message })}</p>
          <p>
            <Button icon="rotate" onClick={load.reload}>
              {t("do.retry")}
            </Button>
          </p>
        </Notice>
      )}
      {children(data)}
    </>
  );
}
