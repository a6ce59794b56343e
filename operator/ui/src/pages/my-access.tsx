// What the person has asked for. Who has no other right in the cluster works with this page alone.
import { t } from "../lib/i18n";
import { chosenNamespace, address, go } from "../lib/router";
import { Act } from "../ui/button";
import { Page } from "../ui/page";
import { Empty } from "../ui/states";
import { Table } from "../ui/table";
import { Here, keyOf, Notes, requestColumns, useRequests } from "./request-parts";

export function MyAccessPage() {
  const load = useRequests("mine");
  const namespace = chosenNamespace();
  const ask = (
    <Act
      need={["CredentialRequest", "create"]}
      namespace={namespace}
      kind="primary"
      icon="plus"
      onClick={() => go(address("/my-access/new", { ns: namespace }))}
    >
      {t("ask.title")}
    </Act>
  );
  const { name, state, purpose, wants, until } = requestColumns();
  return (
    <Page title={t("nav.myAccess")} lead={t("mine.lead")} actions={load.data?.requests.length ? ask : undefined}>
      <Here load={load}>
        {({ requests, notes }) => (
          <>
            <Notes notes={notes} />
            {requests.length === 0 ? (
              <div class="card">
                <Empty title={t("mine.none")} icon="key">
                  <p>{t("mine.noneHelp")}</p>
                  {ask}
                </Empty>
              </div>
            ) : (
              <Table
                caption={t("nav.myAccess")}
                rows={requests}
                rowKey={keyOf}
                columns={[name, state, purpose, wants, until]}
              />
            )}
          </>
        )}
      </Here>
    </Page>
  );
}
