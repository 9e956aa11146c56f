-- Three new values of one agent, in the order of their keys: two writers that meet lock rows in one order.
\set agent random(1, :agents)
\set key random(0, 7)
\set value random(1, 1000000000000000)
INSERT INTO bench (agent_id, key, value) VALUES
  ('agt_' || lpad((:agent)::text, 22, '0'), 'KEY_' || (:key)::text, decode(lpad((:value)::text, 400, '0'), 'hex')),
  ('agt_' || lpad((:agent)::text, 22, '0'), 'KEY_' || (:key + 1)::text, decode(lpad((:value)::text, 400, '1'), 'hex')),
  ('agt_' || lpad((:agent)::text, 22, '0'), 'KEY_' || (:key + 2)::text, decode(lpad((:value)::text, 400, '2'), 'hex'))
ON CONFLICT (agent_id, key) DO UPDATE SET value = excluded.value;
