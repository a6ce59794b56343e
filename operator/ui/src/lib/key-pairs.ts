// Key pairs of requests. A private key cannot be exported: it stays in the IndexedDB of this browser until the key
// that was encrypted to it is taken. In: nothing. Out: the public part, and the private key by its public part.

const DATABASE = "idm";
const STORE = "key-pairs";
const EC = { name: "ECDH", namedCurve: "P-256" };
/** A request is answered within 14 days, and its key is there for 7 more: after that a key pair opens nothing. */
const KEPT_MS = 30 * 86_400_000;

interface Kept {
  id: string;
  key: CryptoKey;
  madeAt: number;
}

/** A public key, as it is sent. */
export interface PublicKey {
  kty: "EC";
  crv: "P-256";
  x: string;
  y: string;
}

/** Browsers have their cryptography for pages of https and of this machine alone. */
export const hasCrypto = (): boolean => globalThis.isSecureContext && !!globalThis.crypto?.subtle;

const settled = <T>(request: IDBRequest<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("IndexedDB"));
  });

async function database(): Promise<IDBDatabase> {
  const request = indexedDB.open(DATABASE, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
  return settled(request);
}

async function within<T>(mode: IDBTransactionMode, act: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const base = await database();
  try {
    const transaction = base.transaction(STORE, mode);
    const ended = new Promise<void>((resolve, reject) => {
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(transaction.error ?? new Error("IndexedDB"));
    });
    const [result] = await Promise.all([settled(act(transaction.objectStore(STORE))), ended]);
    return result;
  } finally {
    base.close();
  }
}

/** The id of a key pair: its point. Undefined for a key that no pair of this browser can have. */
function idOf(jwk: string): string | undefined {
  try {
    const { kty, crv, x, y } = JSON.parse(jwk) as Partial<PublicKey>;
    return kty === "EC" && crv === "P-256" && x && y ? `${x}.${y}` : undefined;
  } catch {
    return undefined;
  }
}

/** Makes and keeps a key pair; what comes back may be sent. */
export async function newPair(now = Date.now()): Promise<PublicKey> {
  const pair = await crypto.subtle.generateKey(EC, false, ["deriveBits"]);
  const { x = "", y = "" } = await crypto.subtle.exportKey("jwk", pair.publicKey);
  const made: PublicKey = { kty: "EC", crv: "P-256", x, y };
  await within("readwrite", (store) => store.put({ id: `${x}.${y}`, key: pair.privateKey, madeAt: now }));
  await forgetOld(now);
  return made;
}

async function forgetOld(now: number): Promise<void> {
  const all = await within<Kept[]>("readonly", (store) => store.getAll());
  for (const each of all.filter(({ madeAt }) => now - madeAt > KEPT_MS)) {
    await within("readwrite", (store) => store.delete(each.id));
  }
}

/** The private key to a public one (JSON text), where this browser has it. */
export async function privateKeyOf(jwk: string): Promise<CryptoKey | undefined> {
  const id = idOf(jwk);
  if (!id) return undefined;
  return (await within<Kept | undefined>("readonly", (store) => store.get(id)))?.key;
}

/** Forgets a key pair that opens nothing any more. */
export async function forgetPair(jwk: string): Promise<void> {
  const id = idOf(jwk);
  if (id) await within("readwrite", (store) => store.delete(id));
}
