// The way to a new object, for those who may make one.
import { t } from "../lib/i18n";
import { address, go, place } from "../lib/router";
import type { Kind } from "../lib/types";
import { Act } from "./button";

export const newPath = (kind: Kind, namespace?: string | null, method?: string): string =>
  address(`/new/${kind}`, { ns: namespace ?? undefined, method });

export function CreateLink({ kind }: { kind: Kind }) {
  const namespace = place.value.query.get("ns");
  return (
    <Act
      need={[kind, "create"]}
      namespace={namespace ?? undefined}
      kind="primary"
      icon="plus"
      onClick={() => go(newPath(kind, namespace))}
    >
      {t("do.create")}
    </Act>
  );
}
