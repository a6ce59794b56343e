// Federations as cards: each says at once whether the outside source answers.
import { t } from "../lib/i18n";
import { linkTo } from "../lib/router";
import type { Item } from "../lib/types";
import { CreateLink } from "../ui/create-link";
import { FilterField, List, useList } from "../ui/list";
import { keyOf, Managed } from "../ui/object-cells";
import { Page } from "../ui/page";
import { Empty } from "../ui/states";
import { ReadyStatus } from "../ui/status";

const FederationCard = ({ item }: { item: Item }) => (
  <li class="card federation">
    <div class="federation-head">
      <span class="chip">{item.summary["type"]}</span>
      <Managed item={item} />
      <ReadyStatus ready={item.ready} suspended={item.summary["suspended"] === "true"} />
    </div>
    <h2>
      <a href={linkTo(item)}>{item.name}</a>
    </h2>
    <p class="mono address">{item.summary["address"]}</p>
    <p class={item.ready.status === "False" ? "small" : "small muted"}>{item.ready.message}</p>
    <p class="small muted">
      {item.namespace}
      {item.team && ` · ${t("col.team")} ${item.team}`}
    </p>
  </li>
);

export function FederationsPage() {
  const load = useList("Federation");
  return (
    <Page title={t("nav.federations")} lead={t("federations.lead")} actions={<CreateLink kind="Federation" />}>
      <List
        load={load}
        filters={<FilterField name="search" label={t("list.search")} grow />}
        empty={
          <Empty title={t("federations.none")} icon="link">
            <p>{t("federations.noneHelp")}</p>
            <CreateLink kind="Federation" />
          </Empty>
        }
      >
        {(page) => (
          <ul class="cards">
            {page.items.map((item) => (
              <FederationCard key={keyOf(item)} item={item} />
            ))}
          </ul>
        )}
      </List>
    </Page>
  );
}
