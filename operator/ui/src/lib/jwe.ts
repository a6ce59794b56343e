// A compact JWE that was encrypted to a key pair of this browser (ECDH-ES on P-256, A256GCM), opened by WebCrypto.
// In: the text and the private key. Out: the plaintext. Never: a key or a plaintext in an error.

/** The text is not what is expected of it; the message says in what. */
export class JweError extends Error {}

type Bytes = Uint8Array<ArrayBuffer>;
type Header = Record<string, unknown>;

const utf8 = new TextEncoder();
const KEY_BITS = 256;
const TAG_BITS = 128;

/** The bytes of base64url without padding. */
export function bytesOf(text: string): Bytes {
  if (!/^[\w-]*$/.test(text) || text.length % 4 === 1) throw new JweError("a part is not base64url");
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (each) => each.charCodeAt(0));
}

function joined(parts: Uint8Array[]): Bytes {
  const all = new Uint8Array(parts.reduce((sum, each) => sum + each.length, 0));
  let at = 0;
  for (const each of parts) {
    all.set(each, at);
    at += each.length;
  }
  return all;
}

const number = (value: number): Bytes => new Uint8Array([24, 16, 8, 0].map((shift) => (value >>> shift) & 255));
const counted = (part: Uint8Array): Bytes => joined([number(part.length), part]);

/**
 * The key that is made of an agreed secret: Concat KDF with SHA-256 (RFC 7518 section 4.6.2), at most 256 bits.
 * `algorithm` is that of the content where nothing is wrapped.
 */
export async function derived(
  secret: Uint8Array,
  algorithm: string,
  parties: [apu: Uint8Array, apv: Uint8Array],
  bits: number,
): Promise<Bytes> {
  const [apu, apv] = parties;
  const input = joined([
    number(1),
    secret,
    counted(utf8.encode(algorithm)),
    counted(apu),
    counted(apv),
    number(bits),
  ]);
  return new Uint8Array(await crypto.subtle.digest("SHA-256", input)).slice(0, bits / 8);
}

/** The secret that a private key and the public key of the other side have in common. */
export async function agreed(own: CryptoKey, other: JsonWebKey): Promise<Bytes> {
  const { kty, crv, x, y } = other;
  if (kty !== "EC" || crv !== "P-256" || !x || !y) throw new JweError("`epk` must be a public key on P-256");
  const algorithm = { name: "ECDH", namedCurve: "P-256" };
  const key = await crypto.subtle.importKey("jwk", { kty, crv, x, y }, algorithm, false, []);
  return new Uint8Array(await crypto.subtle.deriveBits({ name: "ECDH", public: key }, own, KEY_BITS));
}

function headerOf(part: string): Header {
  const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytesOf(part)));
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new JweError("it has no header");
  return value as Header;
}

const party = (value: unknown): Bytes => (typeof value === "string" ? bytesOf(value) : new Uint8Array());

/** Opens a JWE. What it does not understand it refuses. */
export async function opened(jwe: string, own: CryptoKey): Promise<string> {
  const [protectedPart = "", wrapped, iv = "", content = "", tag = "", ...more] = jwe.split(".");
  if (more.length || !tag || wrapped !== "") throw new JweError("it is not a JWE of five parts without a wrapped key");
  const header = headerOf(protectedPart);
  if (header["alg"] !== "ECDH-ES" || header["enc"] !== "A256GCM") {
    throw new JweError("it is not encrypted with ECDH-ES and A256GCM");
  }
  if ("crit" in header || "zip" in header) throw new JweError("its header has `crit` or `zip`");
  const secret = await agreed(own, (header["epk"] ?? {}) as JsonWebKey);
  const raw = await derived(secret, "A256GCM", [party(header["apu"]), party(header["apv"])], KEY_BITS);
  const key = await crypto.subtle.importKey("raw", raw, "AES-GCM", false, ["decrypt"]);
  const [nonce, mac] = [bytesOf(iv), bytesOf(tag)];
  if (nonce.length !== 12 || mac.length !== 16) throw new JweError("its nonce or its tag has a wrong length");
  const how = { name: "AES-GCM", iv: nonce, additionalData: utf8.encode(protectedPart), tagLength: TAG_BITS };
  try {
    const plain = await crypto.subtle.decrypt(how, key, joined([bytesOf(content), mac]));
    return new TextDecoder("utf-8", { fatal: true }).decode(plain);
  } catch {
    throw new JweError("it was encrypted to another key, or was changed");
  }
}
