// Which page belongs to which address.
import type { JSX } from "preact";
import { t } from "../lib/i18n";
import { match } from "../lib/router";
import { Empty } from "../ui/states";
import { Page } from "../ui/page";
import { lazy } from "../ui/lazy";
import { HomePage } from "../pages/home";
import { PoliciesPage } from "../pages/policies";
import { CredentialsPage } from "../pages/credentials";
import { FederationsPage } from "../pages/federations";
import { BindingsPage } from "../pages/bindings";
import { ObjectPage } from "../pages/object";
import { NewObjectPage } from "../pages/new-object";
import { StandardsPage } from "../pages/standards";
import { MatrixPage } from "../pages/matrix";
import { AuditPage } from "../pages/audit";
import { ExplainPage } from "../pages/explain";
import { DecoderPage } from "../pages/decoder";
import { ModelsPage } from "../pages/models";
import { TopologyPage } from "../pages/topology";
import type { Kind } from "../lib/types";

// The pages for requests are not in the first load.
const portal = () => import("../pages/portal");
const MyAccessPage = lazy(async () => (await portal()).MyAccessPage);
const AskPage = lazy(async () => (await portal()).AskPage);
const RequestPage = lazy(async () => (await portal()).RequestPage);
const RequestsPage = lazy(async () => (await portal()).RequestsPage);

type Route = [pattern: string, page: (values: Record<string, string>) => JSX.Element];

const KINDS: Kind[] = ["IdentityPolicy", "Credential", "Federation", "RoleBinding"];

const object = (folder: string, kind: Kind): Route => [
  `/${folder}/:namespace/:name`,
  ({ namespace = "", name = "" }) => (
    // Another object is another page: nothing of one may be left in the other.
    <ObjectPage key={`${kind}/${namespace}/${name}`} kind={kind} namespace={namespace} name={name} />
  ),
];

const request = (folder: string): Route => [
  `/${folder}/:namespace/:name`,
  ({ namespace = "", name = "" }) => (
    <RequestPage key={`${folder}/${namespace}/${name}`} namespace={namespace} name={name} />
  ),
];

const ROUTES: Route[] = [
  ["/", () => <HomePage />],
  ["/policies", () => <PoliciesPage />],
  ["/credentials", () => <CredentialsPage />],
  ["/federations", () => <FederationsPage />],
  ["/bindings", () => <BindingsPage />],
  object("policies", "IdentityPolicy"),
  object("credentials", "Credential"),
  object("federations", "Federation"),
  object("bindings", "RoleBinding"),
  ...KINDS.map((kind): Route => [`/new/${kind}`, () => <NewObjectPage key={kind} kind={kind} />]),
  ["/standards", () => <StandardsPage />],
  ["/my-access", () => <MyAccessPage />],
  ["/my-access/new", () => <AskPage />],
  ["/requests", () => <RequestsPage />],
  request("my-access"),
  request("requests"),
  ["/matrix", () => <MatrixPage />],
  ["/audit", () => <AuditPage />],
  ["/models", () => <ModelsPage />],
  ["/explain", () => <ExplainPage />],
  ["/decoder", () => <DecoderPage />],
  ["/topology", () => <TopologyPage />],
];

export function routed(path: string): JSX.Element {
  for (const [pattern, page] of ROUTES) {
    const values = match(pattern, path);
    if (values) return page(values);
  }
  return (
    <Page title={t("notFound.title")}>
      <Empty title={t("notFound.text", { path })} icon="explain">
        <p>
          <a href="/">{t("nav.home")}</a>
        </p>
      </Empty>
    </Page>
  );
}
