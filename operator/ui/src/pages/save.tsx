// Saving: what would change and what the compiler says, then the change, then how many gateways know it.
import { useEffect, useState } from "preact/hooks";
import { call, type Failure, get, objectAt, post } from "../lib/api";
import { diffLines, hunks } from "../lib/diff";
import { t } from "../lib/i18n";
import { asFailure } from "../lib/load";
import type { Checked, Detail, Finding, Kind } from "../lib/types";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { SpreadLine } from "../ui/spread";
import { FailureNotice, Notice, Skeleton } from "../ui/states";
import { Status } from "../ui/status";

interface Props {
  kind: Kind;
  namespace: string;
  name: string;
  yaml: string;
  version: string | undefined;
  /** A draft of an object that a tool owns: shown what it would do, never saved. */
  draftOnly?: boolean;
  onFindings: (findings: Finding[]) => void;
  onSaved: (object: Detail) => void;
  onTheirs: (object: Detail) => void;
  onRebase: (version: string) => void;
  onClose: () => void;
}

export const FindingList = ({ findings }: { findings: Finding[] }) => (
  <ul class="findings">
    {findings.map((each, index) => (
      <li key={index}>
        <Status tone={each.isNote ? "accent" : "danger"} word={each.reason} />
        <p>
          {each.field && (
            <>
              <code>{each.field}</code>
              <br />
            </>
          )}
          {each.message}
        </p>
      </li>
    ))}
  </ul>
);

export const DiffView = ({ theirs, mine }: { theirs: string; mine: string }) => (
  <div class="code diff" tabIndex={0} role="group" aria-label={t("save.difference")}>
    {hunks(diffLines(theirs, mine)).map((line, index) =>
      line === null ? (
        <div key={index} class="muted">
          …
        </div>
      ) : (
        <div key={index} class={line.sign === "+" ? "added" : line.sign === "-" ? "gone" : undefined}>
          <span aria-hidden="true">{line.sign} </span>
          {line.sign !== " " && (
            <span class="sr-only">{t(line.sign === "+" ? "save.mineLine" : "save.theirsLine")} </span>
          )}
          {line.text || "\u00a0"}
        </div>
      ),
    )}
  </div>
);

export function SaveDialog(props: Props) {
  const { kind, namespace, name, yaml, version } = props;
  const [checked, setChecked] = useState<Checked | undefined>();
  const [saved, setSaved] = useState<Detail | undefined>();
  const [theirs, setTheirs] = useState<Detail | undefined>();
  const [error, setError] = useState<Failure | undefined>();
  const [busy, setBusy] = useState(false);

  const check = async () => {
    setError(undefined);
    setChecked(undefined);
    try {
      const answer = await post<Checked>("check", { kind, namespace, name, yaml, ...(version ? { version } : {}) });
      setChecked(answer);
      props.onFindings(answer.findings);
    } catch (cause) {
      await failed(asFailure(cause));
    }
  };
  const failed = async (failure: Failure) => {
    setError(failure);
    if (failure.field) {
      props.onFindings([{ field: failure.field, reason: failure.code, message: failure.message, isNote: false }]);
    }
    if (failure.status !== 409 || !version) return;
    try {
      setTheirs(await get<Detail>(objectAt(kind, namespace, name)));
    } catch {
      // It is gone, or may not be read: the refusal itself says enough.
    }
  };
  useEffect(() => {
    void check();
  }, [version]);
  const save = async () => {
    setBusy(true);
    setError(undefined);
    try {
      const object = await call<Detail>("PUT", objectAt(kind, namespace, name), {
        yaml,
        ...(version ? { version } : {}),
      });
      setSaved(object);
      props.onSaved(object);
    } catch (cause) {
      await failed(asFailure(cause));
    } finally {
      setBusy(false);
    }
  };

  if (saved) {
    return (
      <Dialog title={t("save.saved", { name })} onClose={props.onClose}>
        <p>
          <SpreadLine namespace={namespace} />
        </p>
        {saved.findings.length > 0 && <FindingList findings={saved.findings} />}
        <div class="buttons">
          <Button kind="primary" onClick={props.onClose}>
            {t("do.close")}
          </Button>
        </div>
      </Dialog>
    );
  }
  if (theirs) {
    return (
      <Dialog title={t("save.conflict", { name })} onClose={props.onClose} wide>
        <Notice tone="warning">
          <p>{error?.message}</p>
        </Notice>
        <p class="legend">
          <span>- {t("save.theirs")}</span>
          <span>+ {t("save.mine")}</span>
        </p>
        <DiffView theirs={theirs.yaml} mine={yaml} />
        <div class="buttons">
          <Button onClick={props.onClose}>{t("do.cancel")}</Button>
          <Button onClick={() => props.onTheirs(theirs)}>{t("save.takeTheirs")}</Button>
          <Button
            kind="primary"
            onClick={() => {
              setTheirs(undefined);
              setError(undefined);
              props.onRebase(theirs.version);
            }}
          >
            {t("save.keepMine")}
          </Button>
        </div>
      </Dialog>
    );
  }
  const broken = checked?.findings.some((each) => !each.isNote) ?? false;
  return (
    <Dialog title={t(props.draftOnly ? "save.draft" : "save.title", { name })} onClose={props.onClose} wide>
      {error && <FailureNotice error={error} retry={() => void check()} />}
      {!checked && !error && <Skeleton rows={3} />}
      {checked && <Review checked={checked} />}
      <div class="buttons">
        <Button onClick={props.onClose}>{t(props.draftOnly ? "do.close" : "save.edit")}</Button>
        {!props.draftOnly && checked && !checked.unchanged && (
          <Button kind={broken ? "danger" : "primary"} busy={busy} onClick={() => void save()}>
            {t(broken ? "save.anyway" : "do.save")}
          </Button>
        )}
      </div>
    </Dialog>
  );
}

const Review = ({ checked }: { checked: Checked }) => (
  <>
    {checked.unchanged ? (
      <Notice tone="note">
        <p>{t("save.unchanged")}</p>
      </Notice>
    ) : (
      <section class="rows">
        <h3>{t("save.changes")}</h3>
        <ul class="code diff-list">
          {checked.diff.map((each, index) => (
            <li key={index}>{each}</li>
          ))}
        </ul>
      </section>
    )}
    {checked.findings.length > 0 && (
      <section class="rows">
        <h3>{t("save.findings")}</h3>
        <FindingList findings={checked.findings} />
      </section>
    )}
    {checked.warnings.map((each, index) => (
      <Notice key={index} tone="warning">
        <p>{each}</p>
      </Notice>
    ))}
    {!checked.unchanged && checked.findings.every((each) => each.isNote) && (
      <p>
        <Status tone="success" word={t("save.fine")} />
      </p>
    )}
  </>
);
