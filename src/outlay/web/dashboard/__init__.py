"""The dashboard: pages for approvers and operators, at the server's own address under ``/dashboard``.

Pages are rendered here, from the reads of the API and under the permissions of whoever is signed in. What changes
something goes through the API's own routes, signed by the person's passkey in the browser.
"""
