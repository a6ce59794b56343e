// Lists of objects: search and filters in the address, pages by cursor, also for a hundred thousand of them.
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { get, query } from "../lib/api";
import { t, tn } from "../lib/i18n";
import { useLoad, type Load } from "../lib/load";
import { filter, place } from "../lib/router";
import type { Kind, Page } from "../lib/types";
import { Button } from "./button";
import { TextField } from "./field";
import { Loaded } from "./states";

const LIMIT = 50;

/** The filters of a list, from the address. */
export function useList(kind: Kind, seconds = 30): Load<Page> {
  const from = place.value.query;
  const value = (name: string) => from.get(name) ?? undefined;
  const family = `objects/${kind}${query({ namespace: value("ns"), team: value("team"), search: value("search") })}`;
  const path = `objects/${kind}${query({
    namespace: value("ns"),
    team: value("team"),
    search: value("search"),
    limit: LIMIT,
    after: value("after"),
  })}`;
  return useLoad<Page>(`${family}#${value("after") ?? ""}`, (signal) => get(path, signal), seconds);
}

/** A text of the address that follows typing after a moment. */
export function FilterField({ name, label, grow }: { name: string; label: string; grow?: boolean }) {
  const inAddress = place.value.query.get(name) ?? "";
  const [text, setText] = useState(inAddress);
  useEffect(() => setText(inAddress), [inAddress]);
  useEffect(() => {
    if (text === inAddress) return;
    const timer = setTimeout(() => filter({ [name]: text, after: "" }), 250);
    return () => clearTimeout(timer);
  }, [text]);
  const field = (
    <TextField
      label={label}
      type="search"
      value={text}
      onInput={setText}
      attributes={name === "search" ? { id: "search" } : {}}
    />
  );
  return grow ? <div class="grow">{field}</div> : field;
}

interface Props {
  load: Load<Page>;
  empty: ComponentChildren;
  filters?: ComponentChildren;
  children: (page: Page) => ComponentChildren;
}

export function List({ load, empty, filters, children }: Props) {
  const [before, setBefore] = useState<string[]>([]);
  const after = place.value.query.get("after") ?? "";
  const filtered = ["search", "team", "ns"].some((each) => place.value.query.get(each));
  const next = (cursor: string) => {
    setBefore([...before, after]);
    filter({ after: cursor });
  };
  const back = () => {
    filter({ after: before.at(-1) ?? "" });
    setBefore(before.slice(0, -1));
  };
  return (
    <>
      {filters && (
        <div class="tools-row" role="group" aria-label={t("list.search")}>
          {filters}
        </div>
      )}
      <Loaded load={load}>
        {(page) => (
          <>
            {page.items.length === 0 ? (
              filtered ? (
                <div class="card">
                  <p class="muted">{t("list.noMatch")}</p>
                </div>
              ) : (
                <div class="card">{empty}</div>
              )
            ) : (
              children(page)
            )}
            {page.items.length > 0 && (
              <nav class="pager" aria-label={t("list.pages")}>
                <span>{page.total === undefined ? "" : tn("list.total", page.total)}</span>
                {(page.next || after) && (
                  <span class="actions">
                    <Button icon="left" disabled={!after} onClick={back}>
                      {t("list.back")}
                    </Button>
                    <Button icon="right" disabled={!page.next} onClick={() => page.next && next(page.next)}>
                      {t("list.next")}
                    </Button>
                  </span>
                )}
              </nav>
            )}
          </>
        )}
      </Loaded>
    </>
  );
}
