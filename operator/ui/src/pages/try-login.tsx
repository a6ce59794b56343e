// A login that is tried at a directory: each step, the groups, the roles. Nobody is let in. The password is in its
// input until it is sent, and nowhere afterwards.
import { useRef, useState } from "preact/hooks";
import { post } from "../lib/api";
import { t, tn, type Word } from "../lib/i18n";
import type { Detail, TriedLogin, TriedPerson } from "../lib/types";
import { useWork } from "../lib/work";
import { useMissing } from "../lib/permissions";
import { Button, missingText } from "../ui/button";
import { PasswordField, TextField } from "../ui/field";
import { Card } from "../ui/page";
import { FailureNotice, Notice } from "../ui/states";
import { Status, type Tone } from "../ui/status";
import { Table } from "../ui/table";
import { Tree } from "../ui/tree";

const VERDICTS: Record<TriedLogin["outcome"], [Tone, Word]> = {
  Verified: ["success", "try.verified"],
  Refused: ["danger", "try.refused"],
  Unknown: ["warning", "try.unknown"],
};

function Person({ person }: { person: TriedPerson }) {
  const { claims, roles, groups, unmatched, provisions } = person;
  return (
    <div class="rows">
      <dl class="facts">
        <dt>{t("create.roles")}</dt>
        <dd>{roles.length ? roles.map((each) => [<span class="chip">{each}</span>, " "]) : t("try.noRoles")}</dd>
        <dt>{t("try.provisions")}</dt>
        <dd>{provisions ? t("try.provisionsRole", { role: provisions }) : t("try.provisionsNothing")}</dd>
        {unmatched.length > 0 && (
          <>
            <dt>{t("try.unmatched")}</dt>
            <dd>
              <Status tone="warning" word={unmatched.join(", ")} />
            </dd>
          </>
        )}
      </dl>
      <h3>{tn("try.groups", groups.length)}</h3>
      {groups.length > 0 && (
        <Table
          caption={t("try.groupsOf")}
          rows={groups}
          rowKey={(each) => each.dn ?? each.name}
          columns={[
            {
              title: t("col.name"),
              head: true,
              cell: (each) => (
                <>
                  {each.name}
                  {each.dn && <span class="sub mono">{each.dn}</span>}
                </>
              ),
            },
            {
              title: t("try.mappedBy"),
              cell: (each) => each.mappedBy.join(", ") || <span class="muted">–</span>,
            },
          ]}
        />
      )}
      <h3>{t("decoder.theClaims")}</h3>
      <Tree value={claims} />
    </div>
  );
}

function Result({ tried }: { tried: TriedLogin }) {
  const [tone, word] = VERDICTS[tried.outcome];
  return (
    <div class="stack" role="status">
      <p class="verdict">
        <Status tone={tone} word={t(word)} /> {tried.reason}
      </p>
      {tried.detail && <p>{tried.detail}</p>}
      {tried.fix && <p class="muted">{tried.fix}</p>}
      <ol class="numbered">
        {tried.steps.map((each, index) => (
          <li key={index}>{each}</li>
        ))}
      </ol>
      {tried.person && <Person person={tried.person} />}
    </div>
  );
}

export function TryLogin({ object }: { object: Detail }) {
  const { namespace, name } = object;
  const lacking = useMissing("Federation", "update", namespace);
  const [username, setUsername] = useState("");
  const input = useRef<HTMLInputElement>(null);
  const { busy, error, result, start } = useWork(() => {
    const password = input.current?.value ?? "";
    if (input.current) input.current.value = "";
    const at = `federations/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}/try`;
    return post<TriedLogin>(at, { username, password });
  });
  return (
    <Card title={t("try.title")}>
      <form class="rows" onSubmit={start}>
        <p class="muted small">{t("try.help")}</p>
        {lacking && (
          <Notice tone="note">
            <p>{missingText(lacking)}</p>
          </Notice>
        )}
        <div class="row">
          <TextField
            label={t("try.username")}
            value={username}
            onInput={setUsername}
            required
            mono
            attributes={{ maxLength: 256 }}
          />
          <PasswordField label={t("try.password")} input={input} required />
        </div>
        <div>
          <Button kind="primary" submit busy={busy} disabled={lacking !== undefined} icon="play">
            {t("try.do")}
          </Button>
        </div>
      </form>
      {error && <FailureNotice error={error} />}
      {result && <Result tried={result} />}
    </Card>
  );
}
