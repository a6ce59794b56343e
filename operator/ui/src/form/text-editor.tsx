// YAML as text: a plain text area with line numbers, marks for the lines of findings, and Tab for two spaces.
import { useRef } from "preact/hooks";
import { t } from "../lib/i18n";

interface Props {
  text: string;
  readOnly: boolean;
  onInput: (text: string) => void;
  wrong?: number | undefined;
}

export function TextEditor({ text, readOnly, onInput, wrong }: Props) {
  const area = useRef<HTMLTextAreaElement>(null);
  const lines = text.split("\n").length;
  const escape = useRef(false);
  const press = (event: KeyboardEvent) => {
    // Escape gives Tab back to the browser, so that nobody is caught in here.
    if (event.key === "Escape") escape.current = true;
    else if (event.key === "Tab" && !event.shiftKey && !readOnly && !escape.current && area.current) {
      event.preventDefault();
      area.current.setRangeText("  ", area.current.selectionStart, area.current.selectionEnd, "end");
      onInput(area.current.value);
    } else if (event.key !== "Tab") escape.current = false;
  };
  return (
    <>
      <div class="editor">
        <ol class="lines" aria-hidden="true">
          {Array.from({ length: lines }, (_, index) => (
            <li key={index} class={wrong === index + 1 ? "wrong" : undefined}>
              {index + 1}
            </li>
          ))}
        </ol>
        <textarea
          ref={area}
          class="mono"
          aria-label="YAML"
          rows={lines + 1}
          value={text}
          readOnly={readOnly}
          wrap="off"
          spellcheck={false}
          autocomplete="off"
          autocapitalize="off"
          onKeyDown={press}
          onInput={(event) => onInput(event.currentTarget.value)}
        />
      </div>
      {!readOnly && <p class="small muted">{t("yaml.tab")}</p>}
    </>
  );
}
