// An answer to one request or to several: what is shown is what is answered. Each is answered by itself, and tells what
// became of it.
import { useEffect, useState } from "preact/hooks";
import { get, post } from "../lib/api";
import { t, tn } from "../lib/i18n";
import { asFailure } from "../lib/load";
import { useMissing } from "../lib/permissions";
import { requestAt } from "../lib/request";
import type { RequestView } from "../lib/types";
import { useWork } from "../lib/work";
import { Barred, Button, missingText } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { TextField } from "../ui/field";
import { FailureNotice } from "../ui/states";
import { Status } from "../ui/status";
import { Asked, type HashCheck, HashLine, keyOf, useHash } from "./request-parts";

export type Answer = "approve" | "reject";
type Outcome = { done: true } | { done: false; text: string };

/** Why the person may not answer, or undefined. */
export function useWhyNot(request: RequestView | undefined, answer: Answer): string | undefined {
  const namespace = request?.namespace;
  const approve = useMissing("Credential", "approve", namespace);
  const create = useMissing("Credential", "create", namespace);
  if (!request) return undefined;
  if (!request.mayAnswer) return request.whyNot ?? t("hashIs.none");
  if (approve) return missingText(approve);
  return answer === "approve" && create ? missingText(create) : undefined;
}

interface ButtonsProps {
  requests: RequestView[];
  onAnswer: (answer: Answer) => void;
  /** For rows of a table: the buttons are named by their request. */
  named?: boolean;
}

/** Both answers. Those that the person may not give say why. */
export function AnswerButtons({ requests, onAnswer, named }: ButtonsProps) {
  const [first] = requests;
  const answers: [Answer, "primary" | "danger", string | undefined][] = [
    ["approve", "primary", useWhyNot(first, "approve")],
    ["reject", "danger", useWhyNot(first, "reject")],
  ];
  return (
    <span class="tools nowrap">
      {answers.map(([answer, kind, why]) => {
        const label = named && first ? { label: t(`answer.${answer}Of`, { name: first.name }) } : {};
        return why ? (
          <Barred key={answer} why={why} {...label}>
            {t(`answer.${answer}`)}
          </Barred>
        ) : (
          <Button key={answer} kind={kind} disabled={!first} onClick={() => onAnswer(answer)} {...label}>
            {t(`answer.${answer}`)}
          </Button>
        );
      })}
    </span>
  );
}

async function given(request: RequestView, answer: Answer, reason: string): Promise<Outcome> {
  try {
    await post<RequestView>(`${requestAt(request)}/${answer}`, { hash: request.hash, ...(reason ? { reason } : {}) });
    return { done: true };
  } catch (cause) {
    const failure = asFailure(cause);
    // It may be that somebody was faster: then that is what the person wants to know.
    const now = await get<RequestView>(requestAt(request)).catch(() => undefined);
    if (now?.uid === request.uid && now.decision) {
      const text = t(now.decision === "Approved" ? "answer.approvedMeanwhile" : "answer.rejectedMeanwhile", {
        who: now.answeredBy ?? "–",
      });
      return { done: false, text };
    }
    return { done: false, text: failure.missing ? missingText(failure.missing) : failure.message };
  }
}

interface OneProps {
  request: RequestView;
  answer: Answer;
  outcome: Outcome | undefined;
  onCheck: (check: HashCheck) => void;
}

function One({ request, answer, outcome, onCheck }: OneProps) {
  const check = useHash(request);
  useEffect(() => onCheck(check), [check]);
  return (
    <section class="card rows" aria-label={request.name}>
      <h3>{request.name}</h3>
      <Asked request={request} />
      <HashLine check={check} hash={request.hash} />
      {outcome && (
        <p>
          <Status
            tone={outcome.done ? "success" : "danger"}
            word={outcome.done ? t(answer === "approve" ? "answer.approved" : "answer.rejected") : outcome.text}
          />
        </p>
      )}
    </section>
  );
}

interface Props {
  requests: RequestView[];
  answer: Answer;
  onClose: () => void;
}

export function AnswerDialog({ requests, answer, onClose }: Props) {
  const [reason, setReason] = useState("");
  const [checks, setChecks] = useState<Record<string, HashCheck>>({});
  const [outcomes, setOutcomes] = useState<Record<string, Outcome>>({});
  const { busy, error, result, start } = useWork(async () => {
    for (const each of requests) {
      const outcome = await given(each, answer, reason.trim());
      setOutcomes((old) => ({ ...old, [keyOf(each)]: outcome }));
    }
    return true;
  });
  // A rejection gives nothing to anybody, so that it may be given to what cannot be checked.
  const wrong = answer === "approve" && requests.some((each) => checks[keyOf(each)] !== "same");
  const done = Object.values(outcomes).filter((each) => each.done).length;
  return (
    <Dialog title={tn(`answer.${answer}Title`, requests.length)} onClose={busy ? undefined : onClose} wide>
      <form class="rows" onSubmit={start}>
        {requests.map((each) => (
          <One
            key={keyOf(each)}
            request={each}
            answer={answer}
            outcome={outcomes[keyOf(each)]}
            onCheck={(check) => setChecks((old) => ({ ...old, [keyOf(each)]: check }))}
          />
        ))}
        {!result && (
          <TextField
            label={t("answer.reason")}
            value={reason}
            onInput={setReason}
            required={answer === "reject"}
            help={t("answer.reasonHelp")}
            attributes={{ maxLength: 1024 }}
          />
        )}
        {error && <FailureNotice error={error} />}
        {result && <p role="status">{tn("answer.done", done, { all: requests.length })}</p>}
        <div class="buttons">
          <Button onClick={onClose} disabled={busy}>
            {t(result ? "do.close" : "do.cancel")}
          </Button>
          {!result && (
            <Button kind={answer === "approve" ? "primary" : "danger"} submit busy={busy} disabled={wrong}>
              {t(`answer.${answer}`)}
            </Button>
          )}
        </div>
      </form>
    </Dialog>
  );
}
