// The widgets of single values, of lists of words, of maps, and the piece of YAML for everything else.
import { useContext, useId, useState } from "preact/hooks";
import { t } from "../lib/i18n";
import { AreaField, SelectField, TextField } from "../ui/field";
import { type Path, partOf, removeAt, setAt, valueOf } from "./document";
import { Editing } from "./context";
import { type Schema, titleOf, widgetOf } from "./schema";

interface Props {
  name: string;
  schema: Schema;
  path: Path;
  value: unknown;
  required: boolean;
}

const asText = (value: unknown): string => (value === undefined || value === null ? "" : String(value));

export function Leaf(props: Props) {
  const { name, schema, path, value, required } = props;
  const { text, change, readOnly, findings } = useContext(Editing);
  const found = findings.get(JSON.stringify(path)) ?? [];
  const wrong = found
    .filter((each) => !each.isNote)
    .map((each) => `${each.reason}: ${each.message}`)
    .join(" ");
  const notes = found
    .filter((each) => each.isNote)
    .map((each) => each.message)
    .join(" ");
  const frame = {
    label: titleOf(name),
    required,
    readOnly,
    help: [schema.description, notes].filter(Boolean).join(" ") || undefined,
    error: wrong || undefined,
  };
  const set = (next: unknown) => change(setAt(text, path, next));
  switch (widgetOf(schema)) {
    case "text":
      return <TextField {...frame} value={asText(value)} onInput={set} attributes={{ maxLength: schema.maxLength }} />;
    case "number":
      return (
        <TextField
          {...frame}
          type="number"
          value={asText(value)}
          attributes={{ min: schema.minimum, max: schema.maximum }}
          onInput={(next) => (next === "" ? change(removeAt(text, path)) : set(Number(next)))}
        />
      );
    case "choice": {
      const options = (schema.enum ?? []).filter((each): each is string => each !== null);
      return (
        <SelectField
          {...frame}
          value={asText(value)}
          onInput={set}
          disabled={readOnly}
          options={options.includes(asText(value)) ? options : [["", "–"], ...options]}
        />
      );
    }
    case "switch":
      return <Switch {...frame} value={value === true} onInput={set} />;
    case "choices":
      return <Choices {...frame} schema={schema} value={value} onInput={set} />;
    case "words":
      return <Words {...frame} numbers={schema.items?.type !== "string"} value={value} onInput={set} />;
    case "map":
      return <Pairs {...frame} value={value} onInput={set} />;
    default:
      return <Piece {...frame} text={partOf(text, path)} onValue={set} />;
  }
}

interface Frame {
  label: string;
  help: string | undefined;
  error: string | undefined;
  readOnly: boolean;
}

function Switch({
  label,
  help,
  error,
  readOnly,
  value,
  onInput,
}: Frame & { value: boolean; onInput: (value: boolean) => void }) {
  const id = useId();
  return (
    <div class={error ? "field wrong" : "field"}>
      <label class="check">
        <input
          type="checkbox"
          checked={value}
          disabled={readOnly}
          aria-describedby={help ? id : undefined}
          onChange={(event) => onInput(event.currentTarget.checked)}
        />
        {label}
      </label>
      {error && <p class="error">{error}</p>}
      {help && (
        <p class="help" id={id}>
          {help}
        </p>
      )}
    </div>
  );
}

function Choices({
  label,
  help,
  error,
  readOnly,
  schema,
  value,
  onInput,
}: Frame & { schema: Schema; value: unknown; onInput: (value: string[]) => void }) {
  const chosen = Array.isArray(value) ? value.map(String) : [];
  const options = (schema.items?.enum ?? []).filter((each): each is string => each !== null);
  // Chosen words keep their order; new ones come last.
  const toggle = (each: string) =>
    onInput(chosen.includes(each) ? chosen.filter((one) => one !== each) : [...chosen, each]);
  return (
    <fieldset class="field choices">
      <legend>{label}</legend>
      <div class="chips">
        {options.map((each) => (
          <label class="check" key={each}>
            <input type="checkbox" checked={chosen.includes(each)} disabled={readOnly} onChange={() => toggle(each)} />
            {each}
          </label>
        ))}
      </div>
      {error && <p class="error">{error}</p>}
      {help && <p class="help">{help}</p>}
    </fieldset>
  );
}

/** One word a line. What is typed stays as it is typed until the field is left. */
function Words({
  numbers,
  value,
  onInput,
  ...frame
}: Frame & { numbers: boolean; value: unknown; onInput: (value: unknown[]) => void }) {
  const joined = Array.isArray(value) ? value.map(String).join("\n") : "";
  const [typed, setTyped] = useState<string | undefined>();
  const read = (next: string) =>
    next
      .split("\n")
      .map((each) => each.trim())
      .filter(Boolean);
  const given = typed !== undefined && read(typed).join("\n") === joined ? typed : joined;
  return (
    <AreaField
      {...frame}
      help={[frame.help, t("form.oneALine")].filter(Boolean).join(" ")}
      value={given}
      rows={Math.min(8, Math.max(2, given.split("\n").length))}
      onInput={(next) => {
        setTyped(next);
        onInput(numbers ? read(next).map(Number) : read(next));
      }}
    />
  );
}

/** `key: value`, one a line. */
function Pairs({
  value,
  onInput,
  ...frame
}: Frame & { value: unknown; onInput: (value: Record<string, string>) => void }) {
  const entries = typeof value === "object" && value !== null ? Object.entries(value) : [];
  const joined = entries.map(([key, each]) => `${key}: ${String(each)}`).join("\n");
  const [typed, setTyped] = useState<string | undefined>();
  const read = (next: string) =>
    Object.fromEntries(
      next
        .split("\n")
        .map((line) => /^\s*([^:\s]+)\s*:\s*(.*?)\s*$/.exec(line))
        .filter((each) => each !== null)
        .map((each) => [each[1] ?? "", each[2] ?? ""]),
    );
  const same = typed !== undefined && JSON.stringify(read(typed)) === JSON.stringify(Object.fromEntries(entries));
  const given = same ? typed : joined;
  return (
    <AreaField
      {...frame}
      help={[frame.help, t("form.pairs")].filter(Boolean).join(" ")}
      value={given}
      rows={Math.min(8, Math.max(2, given.split("\n").length))}
      onInput={(next) => {
        setTyped(next);
        onInput(read(next));
      }}
    />
  );
}

/** A part as text, for what has no widget. It goes into the document whenever it is YAML. */
function Piece({ text, onValue, ...frame }: Frame & { text: string; onValue: (value: unknown) => void }) {
  const [typed, setTyped] = useState<string | undefined>();
  const [problem, setProblem] = useState<string | undefined>();
  const edit = (next: string) => {
    setTyped(next);
    try {
      onValue(valueOf(next));
      setProblem(undefined);
    } catch (cause) {
      setProblem(cause instanceof Error ? cause.message : String(cause));
    }
  };
  return (
    <AreaField
      {...frame}
      error={problem ?? frame.error}
      value={typed ?? text}
      onInput={edit}
      rows={Math.min(12, Math.max(2, (typed ?? text).split("\n").length))}
    />
  );
}
