// A modal dialog: the browser's own element keeps focus inside and gives it back afterwards.
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import { t } from "../lib/i18n";
import { Icon } from "./icon";

interface Props {
  title: string;
  children: ComponentChildren;
  /** Undefined where the dialog cannot be closed without an answer. */
  onClose?: (() => void) | undefined;
  drawer?: boolean;
  wide?: boolean;
}

export function Dialog({ title, children, onClose, drawer, wide }: Props) {
  const element = useRef<HTMLDialogElement>(null);
  const heading = useId();
  const close = useRef(onClose);
  close.current = onClose;
  useEffect(() => {
    const dialog = element.current;
    const before = document.activeElement;
    if (!dialog) return;
    if (!dialog.open) dialog.showModal();
    const cancel = (event: Event) => {
      event.preventDefault();
      close.current?.();
    };
    dialog.addEventListener("cancel", cancel);
    return () => {
      dialog.removeEventListener("cancel", cancel);
      dialog.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return (
    <dialog ref={element} class={`dialog${drawer ? " drawer" : ""}${wide ? " wide" : ""}`} aria-labelledby={heading}>
      <header class="dialog-head">
        <h2 id={heading}>{title}</h2>
        {onClose && (
          <button type="button" class="button plain square" onClick={onClose} aria-label={t("do.close")}>
            <Icon name="close" />
          </button>
        )}
      </header>
      <div class="dialog-body">{children}</div>
    </dialog>
  );
}
