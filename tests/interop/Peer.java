import com.nimbusds.jose.*;
import com.nimbusds.jose.crypto.*;
import com.nimbusds.jose.crypto.factories.DefaultJWSSignerFactory;
import com.nimbusds.jose.crypto.factories.DefaultJWSVerifierFactory;
import com.nimbusds.jose.jwk.*;
import com.nimbusds.jose.util.JSONObjectUtils;
import java.util.*;

/** nimbus-jose-jwt: reads cases from standard input, opens and verifies ours, answers with its own. */
public class Peer {
  static JWEEncrypter encrypter(JWK key, String alg) throws Exception {
    if (alg.startsWith("PBES2")) return new PasswordBasedEncrypter(((OctetSequenceKey) key).toByteArray(), 16, 2000);
    if (alg.equals("dir")) return new DirectEncrypter((OctetSequenceKey) key);
    if (key instanceof OctetSequenceKey k) return new AESEncrypter(k);
    if (key instanceof RSAKey k) return new RSAEncrypter(k.toPublicJWK());
    if (key instanceof ECKey k) return new ECDHEncrypter(k.toPublicJWK());
    return new X25519Encrypter(((OctetKeyPair) key).toPublicJWK());
  }

  static JWEDecrypter decrypter(JWK key, String alg) throws Exception {
    if (alg.startsWith("PBES2")) return new PasswordBasedDecrypter(((OctetSequenceKey) key).toByteArray());
    if (alg.equals("dir")) return new DirectDecrypter((OctetSequenceKey) key);
    if (key instanceof OctetSequenceKey k) return new AESDecrypter(k);
    if (key instanceof RSAKey k) return new RSADecrypter(k);
    if (key instanceof ECKey k) return new ECDHDecrypter(k);
    return new X25519Decrypter((OctetKeyPair) key);
  }

  @SuppressWarnings("unchecked")
  static List<Map<String, Object>> list(Map<String, Object> from, String name) {
    return (List<Map<String, Object>>) from.get(name);
  }

  @SuppressWarnings("unchecked")
  public static void main(String[] args) throws Exception {
    Map<String, Object> cases = JSONObjectUtils.parse(new String(System.in.readAllBytes(), "UTF-8"));
    List<Object> jwe = new ArrayList<>(), jws = new ArrayList<>(), unsupported = new ArrayList<>();
    for (Map<String, Object> one : list(cases, "jwe")) {
      String id = (String) one.get("id"), alg = (String) one.get("alg");
      try {
        JWK key = JWK.parse((Map<String, Object>) one.get("key"));
        JWEObject ours = JWEObject.parse((String) one.get("object"));
        ours.decrypt(decrypter(key, alg));
        JWEHeader header = new JWEHeader(JWEAlgorithm.parse(alg), EncryptionMethod.parse((String) one.get("enc")));
        JWEObject theirs = new JWEObject(header, new Payload("from nimbus " + id));
        theirs.encrypt(encrypter(key, alg));
        jwe.add(Map.of("id", id, "payload", ours.getPayload().toString(), "object", theirs.serialize()));
      } catch (Exception error) {
        unsupported.add(Map.of("id", id, "why", String.valueOf(error)));
      }
    }
    for (Map<String, Object> one : list(cases, "jws")) {
      String id = (String) one.get("id");
      try {
        JWK key = JWK.parse((Map<String, Object>) one.get("key"));
        JWSAlgorithm alg = JWSAlgorithm.parse((String) one.get("alg"));
        JWSObject ours = JWSObject.parse((String) one.get("object"));
        JWSVerifier verifier;
        if (key instanceof OctetSequenceKey k) verifier = new MACVerifier(k);
        else if (key instanceof RSAKey k) verifier = new RSASSAVerifier(k.toPublicJWK());
        else if (key instanceof ECKey k) verifier = new ECDSAVerifier(k.toPublicJWK());
        else verifier = new Ed25519Verifier(((OctetKeyPair) key).toPublicJWK());
        if (!ours.verify(verifier)) throw new JOSEException("the signature does not verify");
        JWSObject theirs = new JWSObject(new JWSHeader(alg), new Payload("from nimbus " + id));
        theirs.sign(new DefaultJWSSignerFactory().createJWSSigner(key, alg));
        jws.add(Map.of("id", id, "payload", ours.getPayload().toString(), "object", theirs.serialize()));
      } catch (Exception error) {
        unsupported.add(Map.of("id", id, "why", String.valueOf(error)));
      }
    }
    System.out.println(JSONObjectUtils.toJSONString(Map.of("jwe", jwe, "jws", jws, "unsupported", unsupported)));
  }
}
