// The one place that talks to the server.
import { me, signedInAgain } from "./session";
import type { Me, Missing } from "./types";

/** A refusal or failure, as the server words it. */
export class Failure extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly field?: string,
    readonly id?: string,
    readonly missing?: Missing,
  ) {
    super(message);
  }
}

interface Refusal {
  code?: string;
  message?: string;
  field?: string;
  id?: string;
  missing?: Missing;
}

async function failure(answer: Response): Promise<Failure> {
  let told: Refusal = {};
  try {
    told = ((await answer.json()) as { error?: Refusal }).error ?? {};
  } catch {
    // Not the server's own answer: a proxy in between. The status has to do.
  }
  const message = told.message ?? `The server answered ${answer.status} without a reason.`;
  return new Failure(answer.status, told.code ?? "Unavailable", message, told.field, told.id, told.missing);
}

async function send(method: string, path: string, body: unknown, signal?: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (method !== "GET") {
    headers["Content-Type"] = "application/json";
    headers["X-Idm-Manager"] = "1";
  }
  const init: RequestInit = { method, headers, credentials: "same-origin", cache: "no-store", redirect: "error" };
  if (body !== undefined) init.body = JSON.stringify(body);
  if (signal) init.signal = signal;
  try {
    return await fetch(`/api/v1/${path}`, init);
  } catch (cause) {
    if (signal?.aborted) throw cause;
    throw new Failure(0, "Unreachable", "The Manager does not answer. Is its process running?");
  }
}

/** Calls the API. A session that has ended is renewed by the person, and the call is made again. */
export async function call<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  let answer = await send(method, path, body, signal);
  if (answer.status === 401 && me.value) {
    await signedInAgain();
    signal?.throwIfAborted();
    answer = await send(method, path, body, signal);
  }
  if (!answer.ok) throw await failure(answer);
  if (answer.status === 204) return undefined as T;
  return (await answer.json()) as T;
}

export const get = <T>(path: string, signal?: AbortSignal): Promise<T> => call<T>("GET", path, undefined, signal);
export const post = <T>(path: string, body: unknown): Promise<T> => call<T>("POST", path, body);

/** How people sign in here: with a code in a folder, with a token in a cluster. */
export async function signInWay(): Promise<"code" | "token"> {
  const answer = await send("GET", "session", undefined);
  if (!answer.ok) throw await failure(answer);
  return ((await answer.json()) as { with: "code" | "token" }).with;
}

/** Signs in with a code or a token, which is sent once and not kept. */
export async function signIn(secret: { code: string } | { token: string; namespaces: string[] }): Promise<Me> {
  const answer = await send("POST", "session", secret);
  if (!answer.ok) throw await failure(answer);
  return whoAmI();
}

/** The person of the session; throws a `Failure` with status 401 when there is none. */
export async function whoAmI(namespace?: string): Promise<Me> {
  const answer = await send("GET", namespace ? `me?namespace=${encodeURIComponent(namespace)}` : "me", undefined);
  if (!answer.ok) throw await failure(answer);
  return (await answer.json()) as Me;
}

/** A query string of the filled members, with its question mark. */
export function query(members: Record<string, string | number | undefined>): string {
  const filled = Object.entries(members).filter(([, value]) => value !== undefined && value !== "");
  return filled.length ? `?${new URLSearchParams(filled.map(([name, value]) => [name, String(value)]))}` : "";
}

/** The path of one object. */
export const objectAt = (kind: string, namespace: string, name: string): string =>
  `objects/${kind}/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`;
