// A key that is shown once. It is in the memory of its dialog alone and leaves the page with it.
import { t } from "../lib/i18n";
import type { NewKey } from "../lib/types";
import { Copy } from "../ui/button";
import { Notice } from "../ui/states";
import { SpreadLine } from "../ui/spread";
import { relative, stamp } from "../lib/time";

export const KeyOnce = ({ made, namespace }: { made: NewKey; namespace: string }) => (
  <>
    {made.key ? (
      <>
        <Notice tone="warning" title={t("key.once")}>
          <p>{t("key.onceText")}</p>
        </Notice>
        <div class="secret">
          <code>{made.key}</code>
          <Copy text={made.key} label={t("key.copy")} />
        </div>
      </>
    ) : (
      <Notice tone="success">
        <p>{t("key.inSecret", { secret: made.secret ?? made.name })}</p>
      </Notice>
    )}
    <dl class="facts">
      <dt>{t("key.id")}</dt>
      <dd>
        <code>{made.id}</code>
      </dd>
      {made.old && (
        <>
          <dt>{t("key.old")}</dt>
          <dd>
            <code>{made.old.id}</code>{" "}
            {t("key.until", { time: stamp(made.old.untilTime), span: relative(made.old.untilTime) })}
          </dd>
        </>
      )}
      <dt>{t("home.gateways")}</dt>
      <dd>
        <SpreadLine namespace={namespace} />
      </dd>
    </dl>
  </>
);
