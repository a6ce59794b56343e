// Signing and encryption in a policy: what each step does, switched on and off over the text; and what it would make.
import { useContext } from "preact/hooks";
import { t, type Word } from "../lib/i18n";
import { Button } from "../ui/button";
import { TextField } from "../ui/field";
import { Editing } from "./context";
import { appendAt, type Path, removeAt, setAt } from "./document";
import { JosePreview } from "./jose-preview";

type Members = Record<string, unknown>;
const members = (value: unknown): Members =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Members) : {};

/** The steps of a policy's text. */
export function jose(data: Members): Members[] {
  const steps = members(data["spec"])["jose"];
  return Array.isArray(steps) ? steps.map(members) : [];
}

const SIGN = { keyRef: { name: "signing-key" }, algorithm: "ES256" };
const CLAIMS = { issuer: "https://gateway.example", subject: "identity.id", expireAfterSeconds: 60 };
const ENCRYPT = { keyRef: { name: "recipient-key" }, algorithm: "RSA-OAEP-256", encryption: "A256GCM" };
const BY_VALUE = [{ value: "https://idp.example", keyRef: { name: "signing-key" } }];
const STEP = {
  name: "upstream-token",
  produce: { sign: { ...SIGN, claims: CLAIMS }, to: { header: "X-Caller" } },
};

interface Toggle {
  word: Word;
  on: boolean;
  disabled?: boolean;
  flip: () => string;
}

function Step({ step, index }: { step: Members; index: number }) {
  const { text, readOnly, change } = useContext(Editing);
  const at: Path = ["spec", "jose", index, "produce"];
  const produce = members(step["produce"]);
  const has = (name: string) => produce[name] !== undefined;
  const sign = members(produce["sign"]);
  const claims = members(sign["claims"]);
  const flip = (path: Path, on: boolean, value: unknown) => (on ? removeAt(text, path) : setAt(text, path, value));
  const byValue = sign["keyFor"] !== undefined;
  const oneKey = () =>
    setAt(removeAt(removeAt(text, [...at, "sign", "keyFor"]), [...at, "sign", "keys"]), [...at, "sign", "keyRef"], {
      name: "signing-key",
    });
  const keysByValue = () =>
    setAt(
      setAt(removeAt(text, [...at, "sign", "keyRef"]), [...at, "sign", "keyFor"], "identity.issuer"),
      [...at, "sign", "keys"],
      BY_VALUE,
    );
  const toggles: Toggle[] = [
    { word: "jose.sign", on: has("sign"), flip: () => flip([...at, "sign"], has("sign"), SIGN) },
    {
      word: "jose.claims",
      on: sign["claims"] !== undefined,
      disabled: !has("sign"),
      flip: () => flip([...at, "sign", "claims"], sign["claims"] !== undefined, CLAIMS),
    },
    { word: "jose.byValue", on: byValue, disabled: !has("sign"), flip: () => (byValue ? oneKey() : keysByValue()) },
    { word: "jose.encrypt", on: has("encrypt"), flip: () => flip([...at, "encrypt"], has("encrypt"), ENCRYPT) },
  ];
  const lifetime = claims["expireAfterSeconds"];
  return (
    <fieldset class="field choices">
      <legend>{String(step["name"] ?? index + 1)}</legend>
      <div class="chips">
        {toggles.map(({ word, on, disabled, flip: next }) => (
          <label class="check" key={word}>
            <input type="checkbox" checked={on} disabled={readOnly || disabled} onChange={() => change(next())} />
            {t(word)}
          </label>
        ))}
      </div>
      {sign["claims"] !== undefined && (
        <TextField
          label={t("jose.lifetime")}
          type="number"
          value={typeof lifetime === "number" ? String(lifetime) : ""}
          readOnly={readOnly}
          help={t("jose.lifetimeHelp")}
          attributes={{ min: 1, max: 31_536_000 }}
          onInput={(next) => {
            const path = [...at, "sign", "claims", "expireAfterSeconds"];
            change(next === "" ? removeAt(text, path) : setAt(text, path, Number(next)));
          }}
        />
      )}
    </fieldset>
  );
}

export function Jose({ value }: { value: Members[] }) {
  const { text, readOnly, change } = useContext(Editing);
  const made = value.map((step, index) => ({ step, index })).filter(({ step }) => step["produce"] !== undefined);
  if (readOnly && made.length === 0) return null;
  return (
    <details class="card provider" open={made.length > 0}>
      <summary>{t("jose.title")}</summary>
      <div class="rows">
        <p class="muted small">{t("jose.help")}</p>
        {made.map(({ step, index }) => (
          <Step key={index} step={step} index={index} />
        ))}
        {!readOnly && (
          <div>
            <Button icon="plus" onClick={() => change(appendAt(text, ["spec", "jose"], STEP))}>
              {t("jose.add")}
            </Button>
          </div>
        )}
        {made.length > 0 && <JosePreview />}
      </div>
    </details>
  );
}
