// The list of shortcuts.
import { t } from "../lib/i18n";
import { Dialog } from "../ui/dialog";
import { GO } from "./keys";
import { SECTIONS } from "./side";

export function HelpDialog({ onClose }: { onClose: () => void }) {
  const entries = SECTIONS.flatMap(([, each]) => each);
  const letter = (path: string) => Object.entries(GO).find(([, to]) => to === path)?.[0];
  return (
    <Dialog title={t("shell.keys")} onClose={onClose}>
      <dl class="facts">
        <dt>
          <kbd>/</kbd>
        </dt>
        <dd>{t("keys.search")}</dd>
        <dt>
          <kbd>?</kbd>
        </dt>
        <dd>{t("shell.keys")}</dd>
        {entries.map(([path, word]) => [
          <dt key={path}>
            <kbd>g</kbd> <kbd>{letter(path)}</kbd>
          </dt>,
          <dd key={`${path} text`}>{t(word)}</dd>,
        ])}
      </dl>
    </Dialog>
  );
}
