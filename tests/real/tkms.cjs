// Lets node-tkms, the users' own library, make a key pair or open shares. Takes JSON on standard input: the folder of the
// library, and for opening what a user has in hand. Answers in JSON; an error of the library becomes {"refused": text}.
"use strict";
const fs = require("node:fs");

const asked = JSON.parse(fs.readFileSync(0, "utf8"));
const tkms = require(asked.library);
const hex = (bytes) => Buffer.from(bytes).toString("hex");
const raw = (text) => new Uint8Array(Buffer.from(text, "hex"));

function makeKeys() {
  const secret = tkms.ml_kem_pke_keygen();
  const enc_key = hex(tkms.ml_kem_pke_pk_to_u8vec(tkms.ml_kem_pke_get_pk(secret)));
  return { enc_key, secret_key: hex(tkms.ml_kem_pke_sk_to_u8vec(secret)) };
}

function open({ servers, client_address, request, domain, responses, secret_key }) {
  const addresses = servers.map(({ party_id, address }) => tkms.new_server_id_addr(party_id, address));
  const client = tkms.new_client(addresses, client_address, "default");
  const secret = tkms.u8vec_to_ml_kem_pke_sk(raw(secret_key));
  const key = tkms.ml_kem_pke_get_pk(secret);
  const verify = true;
  const found = tkms.process_user_decryption_resp_from_js(client, request, domain, responses, key, secret, verify);
  return { values: found.map(({ bytes, fhe_type }) => ({ value: hex(bytes), fhe_type })) };
}

function answer() {
  if (asked.open === undefined) return makeKeys();
  try {
    return open(asked.open);
  } catch (error) {
    return { refused: String(error) };
  }
}

process.stdout.write(JSON.stringify(answer()) + "\n");
