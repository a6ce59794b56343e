// The form of a document: what is there, with the fields that may be added. It edits the text, not a copy of the data.
import { useContext } from "preact/hooks";
import { t } from "../lib/i18n";
import { Button } from "../ui/button";
import { Editing } from "./context";
import { appendAt, moveAt, type Path, removeAt, setAt } from "./document";
import { Leaf } from "./leaf";
import { blank, type Schema, titleOf, widgetOf } from "./schema";

export const Findings = ({ path }: { path: Path }) => {
  const found = useContext(Editing).findings.get(JSON.stringify(path)) ?? [];
  return (
    <>
      {found.map((each, index) => (
        <p key={index} class={each.isNote ? "help" : "error"}>
          {each.reason}: {each.message}
        </p>
      ))}
    </>
  );
};

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A short name for an entry of a list. */
function entryTitle(value: unknown, index: number): string {
  if (!isObject(value)) return `${index + 1}`;
  const name = value["name"] ?? Object.values(value).find((each) => typeof each === "string");
  const choice = Object.entries(value).find(([key, each]) => key !== "name" && isObject(each))?.[0];
  return [name, choice].filter(Boolean).map(String).join(" · ") || `${index + 1}`;
}

interface NodeProps {
  name: string;
  schema: Schema;
  path: Path;
  value: unknown;
  required?: boolean;
}

/** One field, whatever it is. */
export function Field({ name, schema, path, value, required }: NodeProps) {
  const { readOnly, text, change } = useContext(Editing);
  const widget = widgetOf(schema);
  const remove =
    !required && !readOnly && value !== undefined ? (
      <Button
        kind="plain"
        icon="trash"
        label={t("form.remove", { name: titleOf(name) })}
        onClick={() => change(removeAt(text, path))}
      />
    ) : null;
  if (widget === "object" || widget === "list") {
    return (
      <fieldset class="group">
        <legend>
          <span>{titleOf(name)}</span>
          {remove}
        </legend>
        {schema.description && <p class="help">{schema.description}</p>}
        <Findings path={path} />
        {widget === "object" ? (
          <Members schema={schema} path={path} value={isObject(value) ? value : {}} />
        ) : (
          <Entries name={name} schema={schema} path={path} value={Array.isArray(value) ? value : []} />
        )}
      </fieldset>
    );
  }
  return (
    <div class="leaf">
      <Leaf name={name} schema={schema} path={path} value={value} required={!!required} />
      {remove}
    </div>
  );
}

/** The fields of an object: those that are there or must be, then a choice of the others. */
export function Members({ schema, path, value }: { schema: Schema; path: Path; value: Record<string, unknown> }) {
  const { readOnly, text, change } = useContext(Editing);
  const known = schema.properties ?? {};
  const required = schema.required ?? [];
  const here = Object.keys(known).filter((name) => value[name] !== undefined || required.includes(name));
  const unknown = Object.keys(value).filter((name) => !(name in known));
  const others = Object.keys(known).filter((name) => !here.includes(name));
  // In the order of the text, so that form and text read alike.
  const order = Object.keys(value);
  here.sort((a, b) => (order.indexOf(a) + 1 || 99) - (order.indexOf(b) + 1 || 99));
  return (
    <div class="members">
      {here.map((name) => (
        <Field
          key={name}
          name={name}
          schema={known[name] ?? {}}
          path={[...path, name]}
          value={value[name]}
          required={required.includes(name)}
        />
      ))}
      {unknown.map((name) => (
        <Field
          key={name}
          name={name}
          schema={{ description: t("form.unknown") }}
          path={[...path, name]}
          value={value[name]}
        />
      ))}
      {!readOnly && others.length > 0 && (
        <select
          class="add"
          aria-label={t("form.addTo", { name: String(path.at(-1) ?? "") })}
          value=""
          onChange={(event) => {
            const name = event.currentTarget.value;
            event.currentTarget.value = "";
            if (name) change(setAt(text, [...path, name], blank(known[name] ?? {})));
          }}
        >
          <option value="">{t("form.add")}</option>
          {others.map((name) => (
            <option key={name} value={name}>
              {titleOf(name)}
              {known[name]?.description ? `: ${(known[name]?.description ?? "").split(/(?<=\.)\s/)[0]}` : ""}
            </option>
          ))}
        </select>
      )}
    </div>
  );
}

function Entries({ name, schema, path, value }: { name: string; schema: Schema; path: Path; value: unknown[] }) {
  const { readOnly, text, change } = useContext(Editing);
  const items = schema.items ?? {};
  return (
    <div class="entries">
      {value.map((each, index) => {
        const at = [...path, index];
        const title = entryTitle(each, index);
        return (
          <details class="entry" key={index} open={value.length < 4}>
            <summary>{title}</summary>
            {!readOnly && (
              <span class="entry-tools">
                <Button kind="plain" disabled={index === 0} onClick={() => change(moveAt(text, path, index, -1))}>
                  {t("form.up")}
                </Button>
                <Button
                  kind="plain"
                  disabled={index === value.length - 1}
                  onClick={() => change(moveAt(text, path, index, 1))}
                >
                  {t("form.down")}
                </Button>
                <Button
                  kind="plain"
                  icon="trash"
                  label={t("form.remove", { name: title })}
                  onClick={() => change(removeAt(text, at))}
                />
              </span>
            )}
            <Findings path={at} />
            <Members schema={items} path={at} value={isObject(each) ? each : {}} />
          </details>
        );
      })}
      {!readOnly && (
        <div>
          <Button icon="plus" onClick={() => change(appendAt(text, path, blank({ ...items, type: "object" })))}>
            {t("form.addEntry", { name: titleOf(name) })}
          </Button>
        </div>
      )}
    </div>
  );
}
