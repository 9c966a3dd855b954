// Lets node-tkms, the users' own library, make a key pair or open shares; 0.11.0-rc6 is that of the first generation. Takes JSON on
// standard input: the folder of the library, and for opening what a user has in hand. Answers in JSON; an error of the library
// becomes {"refused": text}.
"use strict";
const fs = require("node:fs");

const asked = JSON.parse(fs.readFileSync(0, "utf8"));
const tkms = require(asked.library);
const hex = (bytes) => Buffer.from(bytes).toString("hex");
const raw = (text) => new Uint8Array(Buffer.from(text, "hex"));

// The library names its functions by the kind of key.
const isFirst = tkms.cryptobox_keygen !== undefined;
const kind = isFirst ? "cryptobox" : "ml_kem_pke";
const process_responses = isFirst ? tkms.process_reencryption_resp_from_js : tkms.process_user_decryption_resp_from_js;

function makeKeys() {
  const secret = tkms[`${kind}_keygen`]();
  const enc_key = hex(tkms[`${kind}_pk_to_u8vec`](tkms[`${kind}_get_pk`](secret)));
  return { enc_key, secret_key: hex(tkms[`${kind}_sk_to_u8vec`](secret)) };
}

function server({ party_id, address }) {
  return isFirst ? address : tkms.new_server_id_addr(party_id, address);
}

function open({ servers, client_address, request, domain, responses, secret_key }) {
  const client = tkms.new_client(servers.map(server), client_address, "default");
  const secret = tkms[`u8vec_to_${kind}_sk`](raw(secret_key));
  const key = tkms[`${kind}_get_pk`](secret);
  const verify = true;
  const found = process_responses(client, request, domain, responses, key, secret, verify);
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
