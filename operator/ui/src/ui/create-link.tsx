// The way to a new object, for those who may make one.
import { t } from "../lib/i18n";
import { address, chosenNamespace, go } from "../lib/router";
import type { Kind } from "../lib/types";
import { Act } from "./button";

export const newPath = (kind: Kind, namespace?: string, method?: string): string =>
  address(`/new/${kind}`, { ns: namespace, method });

export function CreateLink({ kind }: { kind: Kind }) {
  const namespace = chosenNamespace();
  return (
    <Act
      need={[kind, "create"]}
      namespace={namespace}
      kind="primary"
      icon="plus"
      onClick={() => go(newPath(kind, namespace))}
    >
      {t("do.create")}
    </Act>
  );
}
