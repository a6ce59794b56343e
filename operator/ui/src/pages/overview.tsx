// The first tab of an object: its state, what the compiler says, its keys, and what can be done with it.
import { useState } from "preact/hooks";
import { call, objectAt, query } from "../lib/api";
import { t } from "../lib/i18n";
import { dropDraft, draftKey } from "../lib/drafts";
import { go, listPath } from "../lib/router";
import { relative, stamp } from "../lib/time";
import type { Detail, Key, Kind } from "../lib/types";
import { useWork } from "../lib/work";
import { Act, Button, Copy } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { TextField } from "../ui/field";
import { Card, Time } from "../ui/page";
import { Empty, FailureNotice, Notice } from "../ui/states";
import { ReadyStatus, Status, type Tone } from "../ui/status";
import { Table } from "../ui/table";
import { RevokeDialog } from "./credential-revoke";
import { RotateDialog } from "./credential-rotate";
import { FindingList } from "./save";
import { TryLogin } from "./try-login";

type Open = { what: "rotate" } | { what: "revoke"; key?: string } | { what: "delete" };
/** The types of Federations that check passwords. */
const DIRECTORIES = ["ldap", "database", "rest"];
const KEY_TONES: Record<string, Tone> = { Active: "success", Overlapping: "warning" };

function Keys({ object, onRevoke }: { object: Detail; onRevoke: (key: string) => void }) {
  const keys = object.keys ?? [];
  if (keys.length === 0) return <Empty title={t("overview.noKeys")} icon="key" />;
  return (
    <Table<Key>
      caption={t("col.keys")}
      rows={keys}
      rowKey={(each) => each.id}
      columns={[
        {
          title: t("key.id"),
          head: true,
          cell: (each) => (
            <>
              <code>{each.id}</code> <Copy text={each.id} label={t("copy.id")} />
            </>
          ),
        },
        {
          title: t("col.status"),
          cell: (each) => <Status tone={KEY_TONES[each.state] ?? "muted"} word={each.state} />,
        },
        {
          title: t("overview.until"),
          minor: true,
          cell: (each) =>
            each.untilTime ? (
              <Time at={each.untilTime}>
                {stamp(each.untilTime)} ({relative(each.untilTime)})
              </Time>
            ) : (
              "–"
            ),
        },
        {
          title: t("col.actions"),
          cell: (each) => (
            <Act
              need={["Credential", "revoke"]}
              namespace={object.namespace}
              kind="danger"
              label={t("revoke.of", { name: each.id })}
              onClick={() => onRevoke(each.id)}
            >
              {t("do.revoke")}
            </Act>
          ),
        },
      ]}
    />
  );
}

function DeleteDialog({ object, onClose }: { object: Detail; onClose: () => void }) {
  const [typed, setTyped] = useState("");
  const { kind, namespace, name, version } = object;
  const { busy, error, start } = useWork(async () => {
    if (typed !== name) return;
    await call<void>("DELETE", `${objectAt(kind, namespace, name)}${query({ version })}`);
    dropDraft(draftKey(kind, namespace, name));
    go(listPath(kind as Kind));
  });
  return (
    <Dialog title={t("delete.title", { name })} onClose={onClose}>
      <form class="rows" onSubmit={start}>
        <Notice tone="warning">
          <p>{t("delete.text")}</p>
        </Notice>
        <TextField
          label={t("delete.type", { name })}
          value={typed}
          onInput={setTyped}
          mono
          attributes={{ autofocus: true }}
        />
        {error && <FailureNotice error={error} />}
        <div class="buttons">
          <Button onClick={onClose}>{t("do.cancel")}</Button>
          <Button kind="danger" submit busy={busy} disabled={typed !== name}>
            {t("do.delete")}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

export function Overview({ object, kind, reload }: { object: Detail; kind: Kind; reload: () => void }) {
  const [open, setOpen] = useState<Open | undefined>();
  const close = () => {
    setOpen(undefined);
    reload();
  };
  const { namespace, name } = object;
  const facts = Object.entries(object.summary).filter(([key]) => key !== "suspended");
  return (
    <div class="stack">
      {object.findings.length > 0 && (
        <Card title={t("save.findings")}>
          <FindingList findings={object.findings} />
        </Card>
      )}
      <Card
        title={t("overview.facts")}
        actions={
          <span class="actions">
            {kind === "Credential" && (
              <>
                <Act
                  need={["Credential", "rotate"]}
                  namespace={namespace}
                  icon="rotate"
                  onClick={() => setOpen({ what: "rotate" })}
                >
                  {t("do.rotate")}
                </Act>
                <Act
                  need={["Credential", "revoke"]}
                  namespace={namespace}
                  kind="danger"
                  onClick={() => setOpen({ what: "revoke" })}
                >
                  {t("do.revoke")}
                </Act>
              </>
            )}
            {!object.managedBy && (
              <Act
                need={[kind, "delete"]}
                namespace={namespace}
                kind="danger"
                icon="trash"
                onClick={() => setOpen({ what: "delete" })}
              >
                {t("do.delete")}
              </Act>
            )}
          </span>
        }
      >
        <dl class="facts">
          <dt>{t("col.status")}</dt>
          <dd>
            <ReadyStatus ready={object.ready} suspended={object.summary["suspended"] === "true"} />{" "}
            <span class="muted">{object.ready.message}</span>
          </dd>
          {facts.map(([key, value]) => [<dt key={key}>{key}</dt>, <dd key={`${key} value`}>{value || "–"}</dd>])}
          {object.file && (
            <>
              <dt>{t("overview.file")}</dt>
              <dd>
                <code>
                  {object.file}
                  {object.line ? `:${object.line}` : ""}
                </code>
              </dd>
            </>
          )}
          <dt>{t("overview.version")}</dt>
          <dd>
            <code>{object.version}</code>
          </dd>
        </dl>
      </Card>
      {kind === "Credential" && (
        <Card title={t("col.keys")} flush>
          <Keys object={object} onRevoke={(key) => setOpen({ what: "revoke", key })} />
        </Card>
      )}
      {kind === "Federation" && DIRECTORIES.includes(object.summary["type"] ?? "") && <TryLogin object={object} />}
      {open?.what === "rotate" && <RotateDialog namespace={namespace} name={name} onClose={close} />}
      {open?.what === "revoke" && (
        <RevokeDialog namespace={namespace} name={name} first={open.key ?? ""} onClose={close} />
      )}
      {open?.what === "delete" && <DeleteDialog object={object} onClose={() => setOpen(undefined)} />}
    </div>
  );
}
