// Credentials: found by name, owner, team or key id; made, rotated and revoked from here.
import { useState } from "preact/hooks";
import { t } from "../lib/i18n";
import { chosenNamespace } from "../lib/router";
import { relative } from "../lib/time";
import type { Item } from "../lib/types";
import { Act } from "../ui/button";
import { FilterField, List, useList } from "../ui/list";
import { keyOf, nameColumn, statusColumn, summaryColumn } from "../ui/object-cells";
import { Page, Time } from "../ui/page";
import { Empty } from "../ui/states";
import { Table, type Column } from "../ui/table";
import { CreateCredential } from "./credential-create";
import { RevokeDialog } from "./credential-revoke";
import { RevokeOwner } from "./credential-revoke-owner";
import { RotateDialog } from "./credential-rotate";

type Open = { what: "create" } | { what: "owner" } | { what: "rotate" | "revoke"; item: Item };

const expires = (): Column<Item> => ({
  title: t("col.expires"),
  minor: true,
  cell: (item) => {
    const time = item.summary["expires"];
    return time ? <Time at={time}>{relative(time)}</Time> : <span class="muted">–</span>;
  },
});

function tools(open: (what: Open) => void): Column<Item> {
  return {
    title: t("col.actions"),
    cell: (item) => (
      <span class="tools nowrap">
        <Act
          need={["Credential", "rotate"]}
          namespace={item.namespace}
          icon="rotate"
          label={t("rotate.of", { name: item.name })}
          onClick={() => open({ what: "rotate", item })}
        >
          {t("do.rotate")}
        </Act>
        <Act
          need={["Credential", "revoke"]}
          namespace={item.namespace}
          kind="danger"
          label={t("revoke.of", { name: item.name })}
          onClick={() => open({ what: "revoke", item })}
        >
          {t("do.revoke")}
        </Act>
      </span>
    ),
  };
}

export function CredentialsPage() {
  const load = useList("Credential");
  const [open, setOpen] = useState<Open | undefined>();
  const namespace = chosenNamespace();
  const close = () => {
    setOpen(undefined);
    load.reload();
  };
  const create = (
    <Act
      need={["Credential", "create"]}
      namespace={namespace}
      kind="primary"
      icon="plus"
      onClick={() => setOpen({ what: "create" })}
    >
      {t("do.create")}
    </Act>
  );
  return (
    <Page
      title={t("nav.credentials")}
      lead={t("credentials.lead")}
      actions={
        <>
          <Act need={["Credential", "revoke"]} namespace={namespace} onClick={() => setOpen({ what: "owner" })}>
            {t("revokeOwner.open")}
          </Act>
          {create}
        </>
      }
    >
      <List
        load={load}
        filters={
          <>
            <FilterField name="search" label={t("credentials.search")} grow />
            <FilterField name="team" label={t("col.team")} />
          </>
        }
        empty={
          <Empty title={t("credentials.none")} icon="key">
            <pre class="code">idm credential create nightly --application nightly-batch</pre>
            {create}
          </Empty>
        }
      >
        {(page) => (
          <Table
            caption={t("nav.credentials")}
            rows={page.items}
            rowKey={keyOf}
            columns={[
              nameColumn(),
              statusColumn(),
              summaryColumn(t("col.type"), "type", true),
              summaryColumn(t("col.owner"), "owner"),
              summaryColumn(t("col.keys"), "keys", true),
              expires(),
              tools(setOpen),
            ]}
          />
        )}
      </List>
      {open?.what === "create" && <CreateCredential namespace={namespace} onClose={close} />}
      {open?.what === "rotate" && (
        <RotateDialog namespace={open.item.namespace} name={open.item.name} onClose={close} />
      )}
      {open?.what === "revoke" && (
        <RevokeDialog namespace={open.item.namespace} name={open.item.name} onClose={close} />
      )}
      {open?.what === "owner" && <RevokeOwner onClose={close} />}
    </Page>
  );
}
