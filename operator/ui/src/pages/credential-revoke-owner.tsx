// After a leak: every key of one owner, in one go, with the result of each.
import { useState } from "preact/hooks";
import { get, query } from "../lib/api";
import { t, tn } from "../lib/i18n";
import { asFailure } from "../lib/load";
import type { Item, Page } from "../lib/types";
import { useWork } from "../lib/work";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { TextField } from "../ui/field";
import { say } from "../ui/live";
import { keyOf } from "../ui/object-cells";
import { FailureNotice, Notice } from "../ui/states";
import { Status } from "../ui/status";
import { revoke } from "./credential-revoke";

type Result = { item: Item; done?: boolean; problem?: string };

/** Every Credential whose owner is exactly `owner`. */
async function ownedBy(owner: string): Promise<Item[]> {
  const found: Item[] = [];
  let after: string | undefined;
  do {
    const page: Page = await get(`objects/Credential${query({ search: owner, limit: 200, after })}`);
    found.push(...page.items.filter((each) => each.summary["owner"] === owner));
    after = page.next;
  } while (after);
  return found;
}

export function RevokeOwner({ onClose }: { onClose: () => void }) {
  const [owner, setOwner] = useState("");
  const [results, setResults] = useState<Result[] | undefined>();
  const search = useWork(async () => setResults((await ownedBy(owner.trim())).map((item) => ({ item }))));
  const revocation = useWork(async () => {
    let now = results ?? [];
    for (const [index, { item }] of now.entries()) {
      let result: Result = { item, done: true };
      try {
        await revoke(item.namespace, item.name);
      } catch (cause) {
        result = { item, problem: asFailure(cause).message };
      }
      now = now.map((each, at) => (at === index ? result : each));
      setResults(now);
    }
    say(tn("revokeOwner.done", now.filter((each) => each.done).length));
  });
  const busy = search.busy || revocation.busy;
  const touched = results?.some((each) => each.done || each.problem);
  return (
    <Dialog title={t("revokeOwner.title")} onClose={busy ? undefined : onClose}>
      <form class="rows" onSubmit={search.start}>
        <div class="ask">
          <TextField
            label={t("col.owner")}
            value={owner}
            onInput={(value) => {
              setOwner(value);
              setResults(undefined);
            }}
            required
            help={t("revokeOwner.help")}
            attributes={{ autofocus: true }}
          />
        </div>
        {!results && (
          <div class="buttons">
            <Button submit busy={busy} icon="explain">
              {t("revokeOwner.find")}
            </Button>
          </div>
        )}
      </form>
      {search.error && <FailureNotice error={search.error} />}
      {results && results.length === 0 && (
        <Notice tone="note">
          <p>{t("revokeOwner.none")}</p>
        </Notice>
      )}
      {results && results.length > 0 && (
        <>
          <ul class="list framed" tabIndex={0} aria-label={t("nav.credentials")}>
            {results.map(({ item, done, problem }) => (
              <li key={keyOf(item)}>
                <span>
                  {item.name}
                  <span class="sub">
                    {item.namespace}
                    {problem && ` · ${problem}`}
                  </span>
                </span>
                {done ? (
                  <Status tone="success" word={t("revokeOwner.revoked")} />
                ) : problem ? (
                  <Status tone="danger" word={t("error.title")} />
                ) : (
                  <span class="muted">{item.summary["keys"]}</span>
                )}
              </li>
            ))}
          </ul>
          <div class="buttons">
            <Button onClick={onClose} disabled={busy}>
              {t(touched ? "do.close" : "do.cancel")}
            </Button>
            {!touched && (
              <Button kind="danger" busy={busy} onClick={revocation.start}>
                {tn("revokeOwner.do", results.length)}
              </Button>
            )}
          </div>
        </>
      )}
    </Dialog>
  );
}
