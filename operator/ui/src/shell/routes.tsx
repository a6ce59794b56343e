// Which page belongs to which address.
import type { JSX } from "preact";
import { t } from "../lib/i18n";
import { match } from "../lib/router";
import { Empty } from "../ui/states";
import { Page } from "../ui/page";
import { HomePage } from "../pages/home";
import { PoliciesPage } from "../pages/policies";
import { CredentialsPage } from "../pages/credentials";
import { FederationsPage } from "../pages/federations";
import { BindingsPage } from "../pages/bindings";

type Route = [pattern: string, page: (values: Record<string, string>) => JSX.Element];

const ROUTES: Route[] = [
  ["/", () => <HomePage />],
  ["/policies", () => <PoliciesPage />],
  ["/credentials", () => <CredentialsPage />],
  ["/federations", () => <FederationsPage />],
  ["/bindings", () => <BindingsPage />],
];

export function routed(path: string): JSX.Element {
  for (const [pattern, page] of ROUTES) {
    const values = match(pattern, path);
    if (values) return page(values);
  }
  return (
    <Page title={t("notFound.title")}>
      <Empty title={t("notFound.text", { path })} icon="explain"><p><a href="/">{t("nav.home")}</a></p></Empty>
    </Page>
  );
}
