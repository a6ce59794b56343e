// What others have asked for, for those who answer: one by one, or several at once.
import { useState } from "preact/hooks";
import { t, tn } from "../lib/i18n";
import { filter, place } from "../lib/router";
import { stamp } from "../lib/time";
import type { RequestView } from "../lib/types";
import { Button } from "../ui/button";
import { SelectField } from "../ui/field";
import { Page } from "../ui/page";
import { Empty } from "../ui/states";
import { type Column, Table } from "../ui/table";
import { AnswerButtons, AnswerDialog, type Answer } from "./request-answer";
import { Here, keyOf, Notes, requestColumns, useRequests } from "./request-parts";

interface Choice {
  isChosen: (request: RequestView) => boolean;
  choose: (request: RequestView, on: boolean) => void;
  answer: (requests: RequestView[], answer: Answer) => void;
}

function columns({ isChosen, choose, answer }: Choice): Column<RequestView>[] {
  const { name, state, wants } = requestColumns();
  return [
    {
      title: t("requests.choose"),
      cell: (each) =>
        each.mayAnswer && (
          <input
            type="checkbox"
            aria-label={t("requests.chooseOf", { name: each.name })}
            checked={isChosen(each)}
            onChange={(event) => choose(each, event.currentTarget.checked)}
          />
        ),
    },
    name,
    {
      title: t("asked.by"),
      cell: (each) => (
        <>
          {each.requester}
          <span class="sub">{each.purpose}</span>
        </>
      ),
    },
    {
      ...wants,
      cell: (each) => (
        <>
          {wants.cell(each)}
          <span class="sub nowrap">
            {t("ask.until")} {stamp(each.credential.expireTime ?? "–").slice(0, 10)}
          </span>
        </>
      ),
    },
    state,
    {
      title: t("col.actions"),
      cell: (each) =>
        each.decision ? null : <AnswerButtons named requests={[each]} onAnswer={(what) => answer([each], what)} />,
    },
  ];
}

function Filled({ requests, reload }: { requests: RequestView[]; reload: () => void }) {
  const [chosen, setChosen] = useState<string[]>([]);
  const [open, setOpen] = useState<{ requests: RequestView[]; answer: Answer } | undefined>();
  const answerable = requests.filter((each) => each.mayAnswer);
  const picked = answerable.filter((each) => chosen.includes(each.uid));
  const choice: Choice = {
    isChosen: ({ uid }) => chosen.includes(uid),
    choose: ({ uid }, on) => setChosen([...chosen.filter((each) => each !== uid), ...(on ? [uid] : [])]),
    answer: (these, answer) => setOpen({ requests: these, answer }),
  };
  const close = () => {
    setOpen(undefined);
    setChosen([]);
    reload();
  };
  return (
    <>
      <div class="tail-line">
        <Button disabled={answerable.length === 0} onClick={() => setChosen(answerable.map((each) => each.uid))}>
          {t("requests.chooseAll")}
        </Button>
        <span role="status">{tn("requests.chosen", picked.length)}</span>
        {picked.length > 0 && <AnswerButtons requests={picked} onAnswer={(answer) => choice.answer(picked, answer)} />}
      </div>
      <Table caption={t("nav.requests")} rows={requests} rowKey={keyOf} columns={columns(choice)} />
      {open && <AnswerDialog {...open} onClose={close} />}
    </>
  );
}

export function RequestsPage() {
  const load = useRequests("others");
  const show = place.value.query.get("show") === "all" ? "all" : "open";
  return (
    <Page title={t("nav.requests")} lead={t("requests.lead")}>
      <div class="tools-row">
        <SelectField
          label={t("requests.show")}
          value={show}
          onInput={(next) => filter({ show: next === "all" ? next : "" })}
          options={[
            ["open", t("requests.open")],
            ["all", t("requests.all")],
          ]}
        />
      </div>
      <Here load={load}>
        {({ requests, notes }) => {
          const isOpen = ({ decision, state }: RequestView) => !decision && state !== "Expired";
          const shown = show === "all" ? requests : requests.filter(isOpen);
          return (
            <>
              <Notes notes={notes} />
              {shown.length === 0 ? (
                <div class="card">
                  <Empty title={t("requests.none")} icon="ok" />
                </div>
              ) : (
                <Filled requests={shown} reload={load.reload} />
              )}
            </>
          );
        }}
      </Here>
    </Page>
  );
}
