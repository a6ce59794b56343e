// Amounts of money, as people write them.
import type { ModelCost } from "./types";

const CODE = /^[A-Z]{3}$/;

/** Amounts in their currencies; the server sends them exact, and six digits behind the point are shown at most. */
export function money(costs: ModelCost[], language = "en"): string {
  const one = ({ currency, amount }: ModelCost) =>
    // A code that is none would be an error of the formatter.
    CODE.test(currency)
      ? new Intl.NumberFormat(language, { style: "currency", currency, maximumFractionDigits: 6 }).format(
          Number(amount),
        )
      : `${amount} ${currency}`;
  return costs.map(one).join(" + ");
}
