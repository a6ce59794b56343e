// The management API as the browser sees it. The server's OpenAPI document is the contract; this is its part in use.

export type Kind = "IdentityPolicy" | "Credential" | "Federation" | "RoleBinding";

/** A permission that is missing: what it is called, where, and who can give it. */
export interface Missing {
  permission: string;
  scope: string;
  grantedBy: string[];
  /** The command that says who has it. */
  whoCan?: string;
}
export type Verdict = { allowed: true; by?: string } | { allowed: false; missing: Missing };
export type Permissions = Record<string, Record<string, Verdict>>;

export interface Me {
  name: string;
  groups: string[];
  mode: "folder" | "cluster";
  namespaces: string[];
  version: string;
  permissions: Permissions;
}

export interface Ready {
  status: "True" | "False" | "Unknown";
  reason: string;
  message: string;
}
export interface ManagedBy {
  tool: string;
  owner: string;
  path?: string;
}
export interface Item {
  kind: string;
  namespace: string;
  name: string;
  team?: string;
  ready: Ready;
  summary: Record<string, string>;
  version: string;
  managedBy?: ManagedBy;
}
export interface Page {
  items: Item[];
  next?: string;
  total?: number;
}

export interface Finding {
  field: string;
  reason: string;
  message: string;
  isNote: boolean;
}
export interface Key {
  id: string;
  state: string;
  untilTime?: string;
}
export interface Detail extends Item {
  yaml: string;
  file?: string;
  line?: number;
  findings: Finding[];
  keys?: Key[];
  effective?: unknown;
}
export interface Checked {
  diff: string[];
  findings: Finding[];
  warnings: string[];
  unchanged: boolean;
}

export interface GatewayState {
  namespace: string;
  name: string;
  generation: number;
  digest: string;
  ready: number;
  wanted: number;
  message: string;
}

export interface Minute {
  time: string;
  permitted: number;
  denied: number;
  failed: number;
}
export interface Home {
  asOf: string;
  gateways: GatewayState[];
  decisions: { since: string; permitted: number; denied: number; failed: number };
  reasons: { reason: string; count: number }[];
  perMinute: Minute[];
  failing: { kind: string; namespace: string; name: string; reason: string; message: string }[];
  expiring: { kind: string; namespace: string; name: string; what: string; time: string }[];
  changes: AuditItem[];
}

export interface AuditItem {
  id: string;
  time: string;
  kind: "Decision" | "Change";
  outcome?: string;
  action?: string;
  reason?: string;
  status?: number;
  who: string;
  namespace: string;
  title: string;
  evidence?: string;
}
export interface AuditPage {
  items: AuditItem[];
  next?: string;
  complete: boolean;
}
export interface AuditDetail {
  item: AuditItem;
  explanation: string;
  record: Record<string, unknown>;
}

export interface NewKey {
  name: string;
  key?: string;
  secret?: string;
  id: string;
  old?: { id: string; untilTime: string };
}

export interface Decoded {
  header: unknown;
  claims: unknown;
  checks: { name: string; ok: boolean | null; text: string }[];
}
export interface Explained {
  outcome: string;
  status: number;
  reason?: string;
  explanation: string;
  steps: { name: string; ok: boolean | null; text: string }[];
}

export type NodeState = "Enforced" | "Overridden" | "Broken" | "Open";
export interface TopologyNode {
  id: string;
  kind: string;
  name: string;
  namespace: string;
  state: NodeState;
  note?: string;
}
export interface TopologyEdge {
  from: string;
  to: string;
  kind: "serves" | "routes" | "protects" | "inherits";
}
export interface Topology {
  nodes: TopologyNode[];
  edges: TopologyEdge[];
}

export interface Matrix {
  roles: { role: string; scope: string; cells: Record<string, string[]> }[];
  bindings: {
    binding: string;
    role: string;
    scope: string;
    subjects: string[];
    cells: Record<string, string[]>;
  }[];
  verbs: string[];
  kinds: string[];
}

/** An amount of money as an exact decimal number. */
export interface ModelCost {
  currency: string;
  amount: string;
}
export interface ModelTokens {
  calls: number;
  promptTokens: number;
  completionTokens: number;
  estimatedCalls: number;
  cost: ModelCost[];
}
export interface ModelCaller extends ModelTokens {
  who: string;
  isCredential: boolean;
  namespace: string;
  model: string;
  steps: number[];
}
export interface ModelRefusal {
  reason: string;
  policy: string;
  namespace: string;
  rule: string;
  count: number;
  lastTime: string;
  lastId: string;
}
export interface ModelQuota {
  policy: string;
  namespace: string;
  who: string;
  tokens: number;
  perSeconds: number;
  used: number;
  endTime: string;
  complete: boolean;
}
export interface ModelUse {
  since: string;
  until: string;
  countedFrom: string;
  complete: boolean;
  stepSeconds: number;
  steps: { time: string; promptTokens: number; completionTokens: number }[];
  total: ModelTokens;
  callers: ModelCaller[];
  next?: string;
  pairs: number;
  refused: ModelRefusal[];
  quotas?: ModelQuota[];
}

export interface TriedPerson {
  claims: Record<string, unknown>;
  roles: string[];
  groups: { name: string; dn?: string; mappedBy: string[] }[];
  unmatched: string[];
  provisions?: string;
}
export interface TriedLogin {
  outcome: "Verified" | "Refused" | "Unknown";
  steps: string[];
  reason?: string;
  detail?: string;
  fix?: string;
  person?: TriedPerson;
}

/** The facts in the document of a provider. */
export interface Provider {
  kind: "oidc" | "saml";
  fields: Record<string, unknown>;
  facts: { name: string; ok: boolean; text: string }[];
  entities?: string[];
}

/** The objects that the JOSE steps of a draft would make. */
export interface Preview {
  steps: {
    name: string;
    to: string;
    bytes: number;
    encrypted?: unknown;
    signed?: unknown;
    payload?: unknown;
    refused?: string;
  }[];
  leftOut: string[];
}

/** A request for a Credential, for the person who looks at it. */
export interface RequestView {
  namespace: string;
  name: string;
  uid: string;
  team?: string;
  requester: string;
  mine: boolean;
  purpose: string;
  /** The wanted Credential, as the request has it. */
  credential: {
    labels?: { name: string; value: string }[];
    roles?: string[];
    access?: { policies?: string[] } & Record<string, unknown>;
    expireTime?: string;
  } & Record<string, unknown>;
  /** The public key to which the key is encrypted, as JSON text. */
  recipient: string;
  state: string;
  message: string;
  hash?: string;
  answerUntilTime?: string;
  decision?: "Approved" | "Rejected";
  answeredBy?: string;
  reason?: string;
  made?: { name: string; keyId: string };
  encryptedKey?: string;
  keyUntilTime?: string;
  createdTime: string;
  mayAnswer: boolean;
  whyNot?: string;
}
export interface RequestList {
  requests: RequestView[];
  notes: string[];
}
