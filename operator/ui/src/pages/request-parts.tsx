// What pages about requests have in common: the state, what is asked for, and the list of a person or of others.
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { query } from "../lib/api";
import type { Word } from "../lib/i18n";
import { t } from "../lib/i18n";
import { hasCrypto } from "../lib/key-pairs";
import { type Load, useRead } from "../lib/load";
import { hashOf, requestPage } from "../lib/request";
import { chosenNamespace } from "../lib/router";
import { relative, stamp } from "../lib/time";
import type { RequestList, RequestView } from "../lib/types";
import { Time } from "../ui/page";
import { Empty, Loaded, Notice } from "../ui/states";
import { Status, type Tone } from "../ui/status";
import type { Column } from "../ui/table";
import { Tree } from "../ui/tree";

/** The states, and how they look. Others are shown by their name. */
const STATES: Record<string, Tone> = {
  Pending: "accent",
  Rejected: "danger",
  Expired: "muted",
  Invalid: "danger",
  GuardNotInForce: "danger",
  StaleAnswer: "warning",
  Conflicted: "danger",
  Issuing: "accent",
  Issued: "success",
  Received: "success",
  NotReceived: "warning",
  Unknown: "muted",
};

export function StateOf({ request: { state, message } }: { request: RequestView }) {
  const tone = STATES[state];
  return (
    <Status tone={tone ?? "muted"} word={tone ? t(`stateOf.${state}` as Word) : state} title={`${state}: ${message}`} />
  );
}

/** The state, what the operator says about it, and what to do. */
export function StateNotice({ request }: { request: RequestView }) {
  const { state, message, answerUntilTime, keyUntilTime, answeredBy, reason } = request;
  const tone = STATES[state];
  const time = state === "Pending" ? answerUntilTime : keyUntilTime;
  const look = !tone || tone === "muted" || tone === "accent" ? "note" : tone;
  return (
    <Notice tone={look} title={tone ? t(`stateOf.${state}` as Word) : state}>
      {state === "Rejected" && answeredBy && (
        <p>{t("asked.rejectedBy", { who: answeredBy, reason: reason ?? "–" })}</p>
      )}
      {request.mine && tone && <p>{t(`helpOf.${state}` as Word, { time: time ? stamp(time) : "–" })}</p>}
      {message && state !== "Rejected" && <p class="muted">{message}</p>}
    </Notice>
  );
}

/** A time, exactly and from now. */
export const When = ({ time }: { time: string | undefined }) =>
  time ? (
    <Time at={time}>
      {stamp(time)} ({relative(time)})
    </Time>
  ) : (
    <span class="muted">–</span>
  );

export const Chips = ({ texts }: { texts: string[] | undefined }) =>
  texts?.length ? (
    <span class="chips">
      {texts.map((each) => (
        <code class="chip" key={each}>
          {each}
        </code>
      ))}
    </span>
  ) : (
    <span class="muted">–</span>
  );

export const labelTexts = (request: RequestView): string[] =>
  (request.credential.labels ?? []).map(({ name, value }) => `${name}=${value}`);

type Fact = [name: string, value: ComponentChildren];

/** All that an answer is bound to. What this page does not know by name is there as well. */
export function Asked({ request }: { request: RequestView }) {
  const { labels: _labels, roles, access = {}, expireTime, apiKey: _apiKey, ...others } = request.credential;
  const { policies, ...limits } = access;
  const further = { ...limits, ...others };
  const facts: Fact[] = [
    [t("asked.by"), request.requester],
    [t("ask.purpose"), request.purpose],
    [t("col.namespace"), request.namespace],
    ...(request.team ? [[t("col.team"), request.team] satisfies Fact] : []),
    [t("ask.policies"), <Chips texts={policies} />],
    [t("create.roles"), <Chips texts={roles} />],
    [t("ask.labels"), <Chips texts={labelTexts(request)} />],
    [t("ask.until"), <When time={expireTime} />],
    ...(Object.keys(further).length ? [[t("asked.further"), <Tree value={further} />] satisfies Fact] : []),
  ];
  return (
    <dl class="facts">
      {facts.map(([name, value]) => [<dt key={name}>{name}</dt>, <dd key={`${name} value`}>{value}</dd>])}
    </dl>
  );
}

/** Whether the hash that an answer would name is that of what is shown. */
export type HashCheck = "same" | "other" | "none" | "asking" | "unable";

export function useHash(request: RequestView): HashCheck {
  const [check, setCheck] = useState<HashCheck>("asking");
  useEffect(() => {
    let over = false;
    const tell = (result: HashCheck) => {
      if (!over) setCheck(result);
    };
    if (!request.hash) tell("none");
    else if (!hasCrypto()) tell("unable");
    else {
      hashOf(request).then(
        (hash) => tell(hash === request.hash ? "same" : "other"),
        () => tell("unable"),
      );
    }
    return () => {
      over = true;
    };
  }, [request]);
  return check;
}

const CHECKS: Record<HashCheck, Tone> = {
  same: "success",
  other: "danger",
  none: "muted",
  asking: "muted",
  unable: "warning",
};

export const HashLine = ({ check, hash }: { check: HashCheck; hash: string | undefined }) => (
  <p class="small">
    <Status tone={CHECKS[check]} word={t(`hashIs.${check}`)} /> {hash && <code title={hash}>{hash.slice(0, 16)}…</code>}
  </p>
);

/** Requests of the person or of others, asked for again now and then. */
export const useRequests = (whose: "mine" | "others"): Load<RequestList> =>
  useRead<RequestList>(`requests${query({ whose, namespace: chosenNamespace() })}`, 15);

/** What is loaded; where there are no requests at all, because the Manager works on a folder, it says so. */
export function Here<T>({ load, children }: { load: Load<T>; children: (data: T) => ComponentChildren }) {
  if (load.data === undefined && load.error?.status === 501) {
    return (
      <div class="card">
        <Empty title={t("asked.notHere")} icon="inbox">
          <p>{load.error.message}</p>
        </Empty>
      </div>
    );
  }
  return <Loaded load={load}>{children}</Loaded>;
}

export const Notes = ({ notes }: { notes: string[] }) =>
  notes.length ? (
    <Notice tone="note">
      {notes.map((each) => (
        <p key={each}>{each}</p>
      ))}
    </Notice>
  ) : null;

export const keyOf = ({ namespace, name }: RequestView): string => `${namespace}/${name}`;

/** The columns that both lists have. */
export const requestColumns = (): Record<"name" | "state" | "purpose" | "wants" | "until", Column<RequestView>> => ({
  name: {
    title: t("col.name"),
    head: true,
    cell: (each) => (
      <>
        <a href={requestPage(each)}>{each.name}</a>
        <span class="sub">
          {each.namespace}
          {each.team && ` · ${t("col.team")} ${each.team}`}
        </span>
      </>
    ),
  },
  state: { title: t("col.status"), cell: (each) => <StateOf request={each} /> },
  purpose: { title: t("ask.purpose"), minor: true, cell: (each) => each.purpose },
  wants: {
    title: t("asked.wants"),
    minor: true,
    cell: (each) => (
      <Chips
        texts={[...(each.credential.access?.policies ?? []), ...(each.credential.roles ?? []), ...labelTexts(each)]}
      />
    ),
  },
  until: {
    title: t("ask.until"),
    minor: true,
    cell: ({ credential: { expireTime } }) =>
      expireTime ? <Time at={expireTime}>{relative(expireTime)}</Time> : <span class="muted">–</span>,
  },
});
