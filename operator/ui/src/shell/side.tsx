// The navigation.
import { t, type Word } from "../lib/i18n";
import { me } from "../lib/session";
import { place } from "../lib/router";
import { Icon, type IconName } from "../ui/icon";

type Entry = [path: string, word: Word, icon: IconName];
export const SECTIONS: [Word, Entry[]][] = [
  [
    "nav.overview",
    [
      ["/", "nav.home", "home"],
      ["/topology", "nav.topology", "graph"],
    ],
  ],
  [
    "nav.identity",
    [
      ["/standards", "nav.standards", "standards"],
      ["/policies", "nav.policies", "shield"],
      ["/federations", "nav.federations", "link"],
      ["/credentials", "nav.credentials", "key"],
    ],
  ],
  [
    "nav.access",
    [
      ["/my-access", "nav.myAccess", "person"],
      ["/requests", "nav.requests", "inbox"],
      ["/bindings", "nav.bindings", "people"],
      ["/matrix", "nav.matrix", "grid"],
    ],
  ],
  [
    "nav.investigate",
    [
      ["/audit", "nav.audit", "audit"],
      ["/models", "nav.models", "chat"],
      ["/explain", "nav.explain", "explain"],
      ["/decoder", "nav.decoder", "token"],
    ],
  ],
];

export function Side({ open }: { open: boolean }) {
  const path = place.value.path;
  const current = (to: string) => (to === "/" ? path === "/" : path === to || path.startsWith(`${to}/`));
  return (
    <aside class={open ? "side open" : "side"} id="side">
      <a class="brand" href="/">
        <img src="/favicon.svg" alt="" />
        idm <small>Manager</small>
      </a>
      <nav class="nav" aria-label={t("nav.main")}>
        {SECTIONS.map(([title, entries]) => (
          <div key={title}>
            <h2>{t(title)}</h2>
            <ul>
              {entries.map(([to, word, icon]) => (
                <li key={to}>
                  <a href={to} aria-current={current(to) ? "page" : undefined}>
                    <Icon name={icon} />
                    {t(word)}
                  </a>
                </li>
              ))}
            </ul>
          </div>
        ))}
      </nav>
      <p class="side-foot">
        {t(me.value?.mode === "cluster" ? "shell.cluster" : "shell.folder")} · {me.value?.version}
        <br />
        <a class="inline" href="/licenses.txt" target="_blank" rel="noopener">
          {t("shell.licences")}
        </a>
      </p>
    </aside>
  );
}
