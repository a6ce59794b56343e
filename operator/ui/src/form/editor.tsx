// Form and text of one object, both over the same draft; loaded when somebody edits.
import { useMemo } from "preact/hooks";
import { t } from "../lib/i18n";
import { useRead } from "../lib/load";
import type { Finding, Kind } from "../lib/types";
import { TextField } from "../ui/field";
import { Loaded, Notice } from "../ui/states";
import { dataOf, open, resolve, setAt } from "./document";
import { Editing, type Subject } from "./context";
import { Findings, Members } from "./form";
import { Jose, jose } from "./jose";
import { ProviderDocument } from "./provider";
import type { Schema } from "./schema";
import { TextEditor } from "./text-editor";

interface Props {
  kind: Kind;
  subject: Subject;
  text: string;
  way: "form" | "yaml";
  readOnly: boolean;
  isNew: boolean;
  findings: Finding[];
  onText: (text: string) => void;
}

/** The name in the metadata, for an object that is new. */
export const nameOf = (text: string): string => {
  const metadata = dataOf(text)["metadata"];
  return typeof metadata === "object" && metadata !== null ? String((metadata as { name?: unknown }).name ?? "") : "";
};

/** The schema of the spec, wherever the answer has it. */
export function specOf(schema: Schema): Schema {
  return schema.properties?.["spec"] ?? schema;
}

export function Editor({ kind, subject, text, way, readOnly, isNew, findings, onText }: Props) {
  const opened = useMemo(() => open(text), [text]);
  const problem = opened.problem;
  if (way === "yaml") {
    const line = problem === undefined ? undefined : Number(/line (\d+)/.exec(problem)?.[1]);
    return (
      <div class="rows">
        {problem !== undefined && (
          <Notice tone="danger">
            <p>{problem}</p>
          </Notice>
        )}
        <TextEditor text={text} readOnly={readOnly} onInput={onText} wrong={line} />
      </div>
    );
  }
  if (problem !== undefined) {
    return (
      <Notice tone="warning" title={t("form.broken")}>
        <p>{problem}</p>
      </Notice>
    );
  }
  return (
    <FormOf
      kind={kind}
      subject={subject}
      text={text}
      readOnly={readOnly}
      isNew={isNew}
      findings={findings}
      onText={onText}
    />
  );
}

function FormOf({ kind, subject, text, readOnly, isNew, findings, onText }: Omit<Props, "way">) {
  const load = useRead<Schema>(`schemas/${kind}`);
  const data = useMemo(() => dataOf(text), [text]);
  const placed = useMemo(() => {
    const map = new Map<string, Finding[]>();
    for (const each of findings) {
      const key = JSON.stringify(resolve(each.field, data));
      map.set(key, [...(map.get(key) ?? []), each]);
    }
    return map;
  }, [findings, data]);
  const spec = data["spec"];
  return (
    <Loaded load={load}>
      {(schema) => (
        <Editing.Provider value={{ text, subject, readOnly, findings: placed, change: onText }}>
          <div class="form">
            {isNew && (
              <TextField
                label={t("col.name")}
                value={nameOf(text)}
                mono
                required
                help={t("create.nameHelp")}
                onInput={(name) => onText(setAt(text, ["metadata", "name"], name))}
              />
            )}
            {kind === "IdentityPolicy" && <Jose value={jose(data)} />}
            {kind === "Federation" && !readOnly && <ProviderDocument />}
            <Findings path={["spec"]} />
            <Members
              schema={specOf(schema)}
              path={["spec"]}
              value={typeof spec === "object" && spec !== null ? (spec as Record<string, unknown>) : {}}
            />
          </div>
        </Editing.Provider>
      )}
    </Loaded>
  );
}
