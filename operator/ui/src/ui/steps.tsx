// Checks in their order, each with its result as shape, word and colour.
import { t } from "../lib/i18n";
import { Status } from "./status";

export const Steps = ({ steps }: { steps: { name: string; ok: boolean | null; text: string }[] }) => (
  <ol class="steps">
    {steps.map((each, index) => (
      <li key={index}>
        <Status tone={each.ok === null ? "muted" : each.ok ? "success" : "danger"} word={each.name} />
        <span>{each.text}</span>
        <span class="sr-only">{t(each.ok === null ? "step.skipped" : each.ok ? "step.passed" : "step.failed")}</span>
      </li>
    ))}
  </ol>
);
